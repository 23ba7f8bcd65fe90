import math
import os
import shutil
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.video import repeat
from retrain import sandbox, video
from retrain.errors import RetrainError
from retrain.images import ImageError
from retrain.video import is_film, open_film

pytest.importorskip("av")
from films import CODECS, RATE, SIZE, colours, draw_film, draw_sound

NAMES = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}


def name_of(pixel):
    return min(NAMES, key=lambda name: np.abs(np.subtract(NAMES[name], pixel[:3], dtype=float)).sum())


def seen(path, every_s=0.0):
    """(time, colour in the middle) of each frame, and the Film."""
    with open_film(path, every_s) as film:
        frames = [
            (round(time_s, 3), name_of(image.getpixel((image.width // 2, image.height // 2))))
            for time_s, image in film.frames()
        ]
    return frames, film


def reason(path, every_s=0.0):
    with pytest.raises(ImageError) as caught:
        seen(path, every_s)
    return caught.value.reason


@pytest.fixture
def film(tmp_path):
    return draw_film(tmp_path / "film.mp4", colours("red", "lime", "blue"))


def test_every_frame_comes_with_its_time_and_pixels(film):
    frames, read = seen(film)
    assert frames == [(number / RATE, ["red", "lime", "blue"][number // RATE]) for number in range(3 * RATE)]
    assert (read.size, read.rate, read.duration_s) == (SIZE, RATE, 3)
    assert (read.end_s, read.decoded, read.damaged) == (3, 30, 0)


@pytest.mark.parametrize("every_s", [0.1, 0.2, 0.3, 1, 2.5, 100])
def test_frames_are_picked_by_time(film, every_s):
    frames, read = seen(film, every_s)
    times = [time for time, _ in frames]
    assert times[0] == 0
    assert all(after - before >= every_s - 0.1 / 2 for before, after in pairwise(times))
    assert len(times) == math.ceil(2.9 / every_s + 1e-6)
    assert read.decoded == 30


@pytest.mark.parametrize("suffix", CODECS)
def test_containers_and_codecs_of_cameras_and_the_web_are_read(tmp_path, suffix):
    path = draw_film(tmp_path / f"film.{suffix}", colours("red", "blue"))
    assert is_film(path)
    frames, read = seen(path)
    assert frames[0] == (0, "red")
    assert frames[-1][1] == "blue"
    assert read.decoded >= 20


def test_content_tells_a_film_and_not_its_name(film, tmp_path, picture):
    shutil.copy(film, tmp_path / "film.jpg")
    shutil.copy(picture, tmp_path / "picture.mp4")
    assert is_film(tmp_path / "film.jpg")
    assert seen(tmp_path / "film.jpg")[1].decoded == 30
    assert not is_film(tmp_path / "picture.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("pipe.mp4", "missing.mp4", "."):
        assert not is_film(tmp_path / name)


@pytest.mark.parametrize(("turned", "upper"), [(90, "right"), (180, "lower"), (270, "left"), (-90, "left")])
def test_film_that_lay_down_is_turned_upright(tmp_path, turned, upper):
    """One edge of the pictures is red; where it was tells by how much the film is turned."""
    (picture,) = colours("white", count=1)
    box = {"right": (SIZE[0] - 16, 0), "lower": (0, SIZE[1] - 16), "left": (0, 0)}[upper]
    end = (16, SIZE[1]) if upper != "lower" else (SIZE[0], 16)
    picture.paste("red", (*box, box[0] + end[0], box[1] + end[1]))
    path = draw_film(tmp_path / "turned.mp4", [picture] * 5, turned=turned)
    with open_film(path) as film:
        _, image = next(film.frames())
    assert image.size == film.size == (SIZE if turned == 180 else SIZE[::-1])
    assert name_of(image.getpixel((image.width // 2, 4))) == "red"
    assert name_of(image.getpixel((image.width // 2, image.height - 5))) == "white"


def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path):
    path = draw_film(tmp_path / "wide.mp4", colours("red"), aspect=2)
    with open_film(path) as film:
        _, image = next(film.frames())
    assert image.size == film.size == (2 * SIZE[0], SIZE[1])


def test_large_frames_are_scaled_down_as_pictures_are(tmp_path):
    path = draw_film(tmp_path / "large.mp4", colours("red", count=2, size=(2048, 1536)))
    with open_film(path) as film:
        _, image = next(film.frames())
    assert film.size == (2048, 1536)
    assert image.size == (682, 512)


def test_frames_of_a_variable_rate_have_the_times_at_which_they_are_shown(tmp_path):
    times = [0, 40, 80, 1000, 5000, 5010, 6000]
    path = draw_film(tmp_path / "variable.mkv", colours(*NAMES, "red", "lime", count=1), times=times)
    frames, read = seen(path)
    assert [time for time, _ in frames] == [time / 1000 for time in times]
    assert read.end_s > 6
    assert [time for time, _ in seen(path, 1)[0]] == [0, 1, 5, 6]


def test_times_begin_anew_where_two_recordings_were_joined(tmp_path):
    part = draw_film(tmp_path / "part.ts", colours("red", count=3 * RATE))
    (tmp_path / "both.ts").write_bytes(2 * part.read_bytes())
    frames, read = seen(tmp_path / "both.ts")
    times = [time for time, _ in frames]
    assert times == sorted(times)
    assert read.end_s == pytest.approx(6, abs=0.3)


def test_film_without_times_goes_by_its_rate():
    stream = SimpleNamespace(average_rate=None, guessed_rate=20, duration=None, time_base=None)
    clock = video._Clock(SimpleNamespace(start_time=None, duration=None), stream)
    bare = SimpleNamespace(time=None, duration=0, time_base=None)
    assert [clock.time(bare) for _ in range(3)] == pytest.approx([0, 0.05, 0.1])
    assert clock.end_s == pytest.approx(0.15)


def noise(count):
    """Pictures that no codec makes small, so that damage is somewhere in their midst."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi"])
def test_truncated_film_is_told_until_it_ends(tmp_path, suffix):
    path = draw_film(tmp_path / f"film.{suffix}", noise(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, read = seen(path)
    assert frames[0][0] == 0
    assert 10 < len(frames) < 25
    assert read.end_s == pytest.approx(len(frames) / RATE)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "corrupt"), (b"words", "corrupt"), (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "corrupt")],
)
def test_file_that_is_no_film_is_refused(tmp_path, content, expected):
    (tmp_path / "film.mp4").write_bytes(content)
    assert reason(tmp_path / "film.mp4") == expected


def test_film_without_its_index_is_refused(film):
    film.write_bytes(film.read_bytes()[:2000])
    assert reason(film) == "corrupt"


def test_missing_file_is_unreadable(tmp_path):
    assert reason(tmp_path / "missing.mp4") == "unreadable"
    assert reason(tmp_path) == "unreadable"


def test_title_in_any_encoding_does_not_matter(film):
    data = film.read_bytes()
    assert b"Lavf" in data
    film.write_bytes(data.replace(b"Lavf", b"\xc7\xcd\x8c\xff"))
    assert seen(film)[1].decoded == 30


def test_sound_alone_is_no_film(tmp_path):
    assert reason(draw_sound(tmp_path / "song.mp4")) == "unsupported"


def test_sound_beside_the_film_is_passed_over(tmp_path):
    frames, read = seen(draw_film(tmp_path / "loud.mp4", colours("red", "blue"), sound=True))
    assert (len(frames), read.damaged) == (20, 0)


def test_frames_of_too_many_pixels_are_refused(film, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", 100)
    assert [answer["reason"] for answer, _ in video_answers(film)] == ["too_large"]


def test_frames_that_grow_inside_a_film_are_not_decoded(film, monkeypatch):
    """The decoder itself refuses what the film's head does not tell."""
    monkeypatch.setitem(video.CODEC_OPTIONS, "max_pixels", "100")
    assert [answer["reason"] for answer, _ in video_answers(film)] == ["corrupt"]


def video_answers(path):
    """What `decode` yields in this process, where files can still be opened."""
    with pytest.MonkeyPatch.context() as monkeypatch, open(path, "rb") as file:
        monkeypatch.setattr(sandbox, "forbid_files", lambda: None)
        return [answer for answer in video.decode(file, 0.0) if answer]


@pytest.fixture
def listener():
    """A socket on which nobody is to call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield server


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3.0,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet>'
    "</Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=x:{}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("scheme", ["file", "http"])
def test_playlist_opens_neither_files_nor_connections(kind, scheme, tmp_path, listener):
    """Not even in a process that could: what FFmpeg may read says no first."""
    other = draw_film(tmp_path / "other.ts", colours("red"))
    path, address = tmp_path / "film.m3u8", f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
    path.write_text(PLAYLISTS[kind].format(f"file://{other}" if scheme == "file" else address))
    assert [answer.keys() for answer, _ in video_answers(path)] == [{"reason", "detail"}]
    assert reason(path) == "corrupt"
    with pytest.raises(TimeoutError):
        listener.accept()


def test_process_that_decodes_can_open_nothing(tmp_path):
    """Whatever a decoder that was taken over would try."""
    with open(sys.executable, "rb") as file:
        answers = list(sandbox.stream(f"{__name__}:try_to_leave", file, 60, here=str(tmp_path)))
    assert [fields["failed"] for fields, _ in answers] == ["OSError", "OSError", "OSError"]
    assert not list(tmp_path.iterdir())


def try_to_leave(file, here):
    sandbox.forbid_files()
    for attempt in (Path("/etc/hostname").read_bytes, Path(here, "new").touch, socket.socket):
        try:
            attempt()
            yield {"failed": None}, b""
        except OSError:
            yield {"failed": "OSError"}, b""


@pytest.mark.parametrize(("function", "expected"), [("crash", "corrupt"), ("hang", "too_slow"), ("eat", "too_large")])
def test_decoder_that_crashes_hangs_or_eats_memory_is_an_error(film, monkeypatch, function, expected):
    stream = sandbox.stream
    monkeypatch.setattr(video, "FRAME_SECONDS", 1.0 if function == "hang" else 60)
    monkeypatch.setattr(sandbox, "stream", lambda _, *rest, **more: stream(f"{__name__}:{function}", *rest, **more))
    assert reason(film) == expected


def crash(file, every_s):
    yield {"duration_s": 1, "rate": 1, "original_size": [1, 1]}, b""
    os.abort()


def hang(file, every_s):
    yield {"duration_s": 1, "rate": 1, "original_size": [1, 1]}, b""
    while True:
        pass


def eat(file, every_s):
    try:
        bytearray(2 * video.MEMORY_LIMIT)
    except MemoryError:
        yield {"reason": "too_large", "detail": "not enough memory"}, b""


def children():
    command = ["ps", "-ww", "--ppid", str(os.getpid()), "-o", "args"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "serve_stream" in line]


def test_process_ends_when_no_more_frames_are_wanted(film, tmp_path):
    with open_film(repeat(film, tmp_path / "long.mp4", 100)) as read:
        next(read.frames())
        before = children()
    assert len(before) == len(children()) + 1


def test_without_pyav_the_error_says_what_to_install(film, monkeypatch):
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="PyAV") as caught:
        seen(film)
    assert "pip install 'retrain[video]'" in caught.value.hint


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("cockatoo", 280), ("bikes", 250), ("short_hamilton_clip", 275)])
def test_every_frame_of_real_films_is_decoded(real_data, name, count):
    frames, read = seen(real_data / "video" / f"{name}.mp4")
    assert (len(frames), read.decoded, read.damaged) == (count, count, 0)
    assert read.end_s == pytest.approx(read.duration_s, abs=0.05)
