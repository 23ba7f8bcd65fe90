import json
import os
import re
import shutil

import pytest
from PIL import Image

pytest.importorskip("av")
from films import RATE, colours, draw_film, draw_sound

SEGMENT = re.compile(r"(\d+:)?\d\d:\d\d\.\d-(\d+:)?\d\d:\d\d\.\d .+ \(score = [01]\.\d{5}\)")


@pytest.fixture(scope="module")
def film(sample, tmp_path_factory):
    """Two seconds of a tree and three of fish."""
    tree, fish = (Image.open(sorted((sample / name).iterdir())[0]) for name in ("tree", "fish"))
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return draw_film(path, [tree] * 2 * RATE + [fish] * 3 * RATE)


def test_guess_of_a_film_prints_a_line_a_segment(run, film, model_dir):
    code, out, _ = run("guess", film)
    lines = out.decode().splitlines()
    assert code == 0
    assert [line.split(" (")[0] for line in lines] == ["00:00.0-00:02.0 tree", "00:02.0-00:05.0 fish"]
    assert all(SEGMENT.fullmatch(line) for line in lines)


def test_json_of_a_film_is_one_line_with_the_keys_of_a_picture_and_more(run, film, picture, model_dir):
    _, out, _ = run("guess", "--json", "--top", "2", film, picture)
    of_film, of_picture = map(json.loads, out.splitlines())
    assert list(of_film)[: len(of_picture)] == list(of_picture)
    assert [segment["label"] for segment in of_film["segments"]] == ["tree", "fish"]
    assert (of_film["frames"], of_film["decoded"], of_film["csv"]) == (25, 50, None)
    assert len(of_film["scores"]) == 2


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        (["--every", "frame"], 50), (["--every", "0"], 50), (["--every", "1s"], 5), (["--every", "500ms"], 10),
        (["--every", "1min"], 1), (["--fps", "2"], 10), (["--fps", "0.5"], 3), (["--smooth", "0"], 25),
    ],
)  # fmt: skip
def test_as_many_frames_are_looked_at_as_were_asked_for(run, film, model_dir, options, frames):
    assert json.loads(run("guess", "--json", *options, film)[1])["frames"] == frames


def test_without_smoothing_each_frame_stands_for_itself(run, model_dir, sample, tmp_path):
    tree, fish = (Image.open(sorted((sample / name).iterdir())[0]) for name in ("tree", "fish"))
    path = draw_film(tmp_path / "flicker.mp4", [tree, fish] * 3, keyframes=1)
    _, out, _ = run("guess", "--every", "frame", "--smooth", "0", path)
    assert [line.split()[1] for line in out.decode().splitlines()] == ["tree", "fish"] * 3
    assert len(run("guess", "--every", "frame", path)[1].splitlines()) == 1


def test_folder_may_hold_films_among_pictures(run, film, picture, model_dir, tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    shutil.copy(film, folder / "a.mov")
    shutil.copy(picture, folder / "b.jpg")
    code, out, _ = run("guess", "--top", "1", folder)
    lines = out.decode().splitlines()
    assert code == 0
    assert [lines[0], lines[3]] == [str(folder / "a.mov"), str(folder / "b.jpg")]
    assert all(SEGMENT.fullmatch(line) for line in lines[1:3])


def test_broken_film_among_others_is_a_row(run, film, model_dir, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(film.read_bytes()[:900])
    song = draw_sound(tmp_path / "song.mp4")
    code, out, err = run("guess", "--json", bad, film, song, "--out", tmp_path / "out")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [(row["error"] or "").split()[:1] for row in rows] == [["corrupt"], [], ["unsupported"]]
    assert len({tuple(row) for row in rows}) == 1
    assert "2 file(s) failed." in err
    assert sorted(os.listdir(tmp_path / "out")) == ["film.csv", "film.jpg", "film.json", "film.vtt"]


def test_film_that_ends_too_early_is_told_and_said(run, sample, model_dir, tmp_path):
    tree = Image.open(sorted((sample / "tree").iterdir())[0])
    path = draw_film(tmp_path / "cut.mkv", [tree] * 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, err = run("guess", path)
    assert code == 0
    assert SEGMENT.match(out.decode())
    assert re.search(r"cut\.mkv: ends at 00:0\d\.\d of 00:06\.0\.", err)


def test_out_names_what_it_wrote_and_may_not_lie_among_what_is_guessed(run, film, model_dir, tmp_path):
    code, _, err = run("guess", film, "--out", tmp_path / "seen")
    assert code == 0
    assert str(tmp_path / "seen" / "film.vtt") in err
    code, _, err = run("guess", film.parent, "--out", film.parent / "seen")
    assert code == 1
    assert not (film.parent / "seen").exists()


def test_name_of_a_film_gives_the_terminal_no_orders(run, film, model_dir, tmp_path):
    path = shutil.copy(film, tmp_path / "\x1b]2;title\x07\nfilm.mp4")
    _, _, err = run("guess", path, "--out", tmp_path / "seen")
    assert f"{tmp_path}/?]2;title??film.mp4 -> {tmp_path}/seen" in err


def test_imagenet_takes_films(run, film):
    code, out, _ = run("imagenet", film, "--every", "1s")
    assert code == 0
    assert all(SEGMENT.fullmatch(line) for line in out.decode().splitlines())
    row = json.loads(run("imagenet", film, "--json", "--threshold", "1")[1])
    assert row["unknown"]
    assert [segment["unknown"] for segment in row["segments"]] == [True]
    assert len(row["scores"]) == 5


def test_unknown_segments_name_what_is_nearest(run, film):
    _, out, _ = run("imagenet", film, "--threshold", "1")
    assert out.decode().startswith("00:00.0-00:05.0 unknown; nearest: ")


@pytest.mark.parametrize(
    "options",
    [
        ["--every", "often"],
        ["--every", "-1s"],
        ["--every", "1s", "--fps", "2"],
        ["--fps", "0"],
        ["--smooth", "frame"],
        ["--every", "nan"],
    ],
)
def test_wrong_use_with_films_exits_with_2(run, film, model_dir, options):
    assert run("guess", film, *options)[0] == 2


def test_film_needs_pyav_only_where_it_is_named(run, film, picture, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("retrain.video.find_spec", lambda name: None)
    code, _, err = run("guess", film)
    assert code == 1
    assert "pip install 'retrain[video]'" in err
    folder = tmp_path / "holiday"
    folder.mkdir()
    shutil.copy(film, folder / "a.mp4")
    shutil.copy(picture, folder / "b.jpg")
    code, out, err = run("guess", folder)
    assert code == 3
    assert "a.mp4: unsupported (films need PyAV" in err
    assert b"(score = " in out


def test_films_are_explained_no_further(run, film, picture, model_dir, tmp_path):
    _, out, _ = run("guess", "--json", "--explain", tmp_path / "why", film, picture)
    of_film, of_picture = map(json.loads, out.splitlines())
    assert (of_film["heatmap"], of_film["segments"][0]["label"]) == (None, "tree")
    assert of_picture["heatmap"]


def test_sorting_takes_films_for_no_pictures(run, film, picture, model_dir, tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    shutil.copy(film, folder / "clip.mp4")
    shutil.copy(picture, folder / "b.jpg")
    code, out, _ = run("sort", folder, tmp_path / "sorted", "--json")
    assert (code, json.loads(out)["errors"]) == (3, 1)


def test_many_colours_make_a_film_of_nothing_known(run, model_dir, tmp_path):
    path = draw_film(tmp_path / "plain.mp4", colours("magenta", "black", "white"))
    code, out, _ = run("guess", path)
    assert code == 0
    assert out.decode().count("\n") >= 1
