import csv
import io
import json
import os
import re
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from retrain import Classifier, FilmOptions, guess_film
from retrain.errors import RetrainError
from retrain.recipes.film_files import CELL, MAX_CELLS, FilmFiles, Seen, as_vtt, clock, draw_sheet
from retrain.segments import Moment

pytest.importorskip("av")
from films import RATE, draw_film

EVERY_FRAME = FilmOptions(every_s=0)
CUE = re.compile(r"(\d\d):(\d\d):(\d\d)\.(\d{3}) --> (\d\d):(\d\d):(\d\d)\.(\d{3})\n([^\n]+)")


@pytest.fixture(scope="module")
def classifier(trained):
    return Classifier.load(trained / "model")


@pytest.fixture(scope="module")
def film(sample, tmp_path_factory):
    """Two seconds of a tree, three of fish, two of the tree again."""
    tree, fish = (Image.open(sorted((sample / name).iterdir())[0]) for name in ("tree", "fish"))
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return draw_film(path, [tree] * 2 * RATE + [fish] * 3 * RATE + [tree] * 2 * RATE)


def spans(guess):
    return [(each["label"], each["start_s"], each["end_s"]) for each in guess.segments]


@pytest.mark.parametrize("every_s", [0, 0.2, 0.5])
def test_segments_are_what_is_seen_from_when_to_when(classifier, film, every_s):
    guess = guess_film(classifier, film, FilmOptions(every_s))
    assert spans(guess) == [("tree", 0, 2), ("fish", 2, 5), ("tree", 5, 7)]
    assert all(each["confidence"] > 0.5 and not each["unknown"] for each in guess.segments)
    assert (guess.duration_s, guess.announced_s, guess.decoded, guess.damaged) == (7, 7, 70, 0)
    assert guess.frames == (70 if not every_s else 7 / every_s)


def test_film_as_a_whole_has_the_mean_scores_of_its_time(classifier, film):
    guess = guess_film(classifier, film, EVERY_FRAME)
    assert guess.label == "tree"
    assert guess.confidence == guess.scores["tree"] == max(guess.scores.values())
    assert sum(guess.scores.values()) == pytest.approx(1)
    assert (guess.unknown, guess.error, guess.is_cut) == (False, None, False)


def test_rows_of_a_film_have_all_keys_also_where_it_fails(classifier, film, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(film.read_bytes()[:900])
    rows = [guess_film(classifier, path).as_dict() for path in (film, tmp_path / "bad.mp4")]
    assert list(rows[0]) == list(rows[1])
    assert set(rows[0]) > {"path", "label", "confidence", "scores", "unknown", "error", "segments", "csv", "sheet"}
    assert rows[1]["error"].startswith("corrupt")
    assert rows[1]["segments"] == []


def test_files_hold_every_frame_and_segment(classifier, film, tmp_path):
    guess = guess_film(classifier, film, EVERY_FRAME, tmp_path / "out" / "here")
    assert sorted(os.listdir(tmp_path / "out" / "here")) == ["film.csv", "film.jpg", "film.json", "film.vtt"]
    with open(guess.files["csv"], newline="") as file:
        table = list(csv.DictReader(file))
    with open(guess.files["json"]) as file:
        whole = json.load(file)
    assert [float(row["time_s"]) for row in table] == [row["time_s"] for row in whole["moments"]]
    assert [row["time_s"] for row in whole["moments"]] == [number / RATE for number in range(70)]
    assert [row["label"] for row in table] == 20 * ["tree"] + 30 * ["fish"] + 20 * ["tree"]
    assert [row["smoothed_label"] for row in whole["moments"]] == [row["label"] for row in table]
    assert {row["unknown"] for row in table} <= {"True", "False"}
    assert whole["segments"] == guess.segments
    assert (whole["scores"], whole["frames"]) == (guess.scores, 70)
    with open(guess.files["vtt"]) as file:
        cues = CUE.findall(file.read())
    assert [cue[2:4] + cue[6:] for cue in cues] == [
        ("00", "000", "02", "000", "tree"), ("02", "000", "05", "000", "fish"), ("05", "000", "07", "000", "tree")
    ]  # fmt: skip


def colour_of(sheet, number, columns):
    """Of the middle of a cell of the contact sheet."""
    width, height = CELL[0] + 8, CELL[1] + 48
    return sheet.getpixel((8 + number % columns * width + CELL[0] // 2, 8 + number // columns * height + CELL[1] // 2))


@pytest.mark.parametrize(("scenes", "columns"), [(3, 4), (16, 4), (20, 5)])
def test_contact_sheet_shows_each_segment_and_more_of_few(tmp_path, scenes, columns):
    colours = [(255, 0, 0), (0, 0, 255)]
    files, seconds = FilmFiles(tmp_path, "film.mp4", ["red", "blue"]), 100 // scenes
    with files:
        seen = [Seen(time, "", 0.9, False, jpeg(colours[time // seconds % 2])) for time in range(scenes * seconds)]
        moments = [Moment(each.time_s, each.time_s + 1, np.eye(2)[0], False, each, 0) for each in seen]
        assert list(files.noting(moments)) == moments
        for number in range(scenes):
            start = number * seconds
            segment = {"start_s": start, "end_s": start + seconds, "label": "x", "unknown": False}
            files.keep(segment, seen[start + seconds // 2])
        path = files.finish({"segments": []})["sheet"]
    with Image.open(path) as sheet:
        cells = [colour_of(sheet, number, columns) for number in range(max(scenes, 12))]
    cells = [min((0, 1), key=lambda number, cell=cell: abs(colours[number][0] - cell[0])) for cell in cells]
    assert sum(before != after for before, after in pairwise(cells)) == scenes - 1


def test_nothing_is_overwritten(classifier, film, tmp_path):
    (tmp_path / "FILM.VTT").write_text("mine")
    (tmp_path / "film.json").symlink_to("nowhere")
    first, second = (guess_film(classifier, film, FilmOptions(1), tmp_path) for _ in range(2))
    assert first.files["csv"] == str(tmp_path / "film-2.csv")
    assert second.files["csv"] == str(tmp_path / "film-3.csv")
    assert (tmp_path / "FILM.VTT").read_text() == "mine"
    assert (tmp_path / "film.json").is_symlink()
    assert not (tmp_path / "film.csv").exists()


def test_what_fails_or_is_stopped_leaves_nothing(classifier, film, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(film.read_bytes()[:900])
    out = tmp_path / "out"
    assert guess_film(classifier, tmp_path / "bad.mp4", out=out).error

    class Stopping(Classifier):
        def guess_image(self, image, path="-"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guess_film(Stopping(classifier.model), film, out=out)
    assert not out.exists() or not os.listdir(out)


def test_hostile_name_stays_in_the_folder(classifier, film, tmp_path):
    path = tmp_path / "..:\n<b>.mp4"
    path.write_bytes(film.read_bytes())
    guess = guess_film(classifier, path, FilmOptions(1), tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [f"..___b_.{suffix}" for suffix in ("csv", "jpg", "json", "vtt")]
    assert guess.path == str(path)


def test_folder_that_cannot_be_written_is_an_error_and_no_bad_film(classifier, film, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RetrainError, match="cannot write"):
        guess_film(classifier, film, out=tmp_path / "file" / "out")


def test_subtitles_escape_what_has_a_meaning_there():
    labels = ["a --> b", "<c.x>&amp;</c>", "two\nlines\n\nand a cue", "WEBVTT"]
    segments = [
        {"start_s": 1.0 * number, "end_s": number + 1.0, "label": label, "unknown": number == 3}
        for number, label in enumerate(labels)
    ]
    text = as_vtt(segments)
    assert text.startswith("WEBVTT\n\n")
    assert [cue[-1] for cue in CUE.findall(text)] == [
        "a --&gt; b", "&lt;c.x&gt;&amp;amp;&lt;/c&gt;", "two lines and a cue", "unknown; nearest: WEBVTT"
    ]  # fmt: skip
    assert text.count("-->") == 4
    assert as_vtt([{"start_s": 36_000.5, "end_s": 36_001.0, "label": "x", "unknown": False}]).count("10:00:00.500") == 1


def test_label_that_is_no_utf_8_is_written_as_it_is(tmp_path):
    label = "caf\udce9"  # what a folder's name in Latin-1 reads like
    seen = Seen(0.0, label, 1.0, False, jpeg())
    segment = {"start_s": 0.0, "end_s": 1.0, "label": label, "confidence": 1.0, "unknown": False}
    with FilmFiles(tmp_path, tmp_path / "film.mp4", [label]) as files:
        assert len(list(files.noting([Moment(0.0, 1.0, np.ones(1), False, seen, there=0)]))) == 1
        files.keep(segment, seen)
        files.finish({"segments": [segment]})
    assert b"0.0,caf\xe9,1.0,False,caf\xe9,False" in (tmp_path / "film.csv").read_bytes()
    assert json.loads((tmp_path / "film.json").read_text())["moments"][0]["label"] == label


def test_no_label_is_a_formula_to_a_spreadsheet(tmp_path):
    seen = Seen(0.0, "=1+1", 1.0, False, jpeg())
    segment = {"start_s": 0.0, "end_s": 1.0, "label": "@SUM(A1)", "confidence": 1.0, "unknown": False}
    with FilmFiles(tmp_path, tmp_path / "film.mp4", ["@SUM(A1)"]) as files:
        assert len(list(files.noting([Moment(0.0, 1.0, np.ones(1), False, seen, there=0)]))) == 1
        files.keep(segment, seen)
        files.finish({"segments": [segment]})
    assert "0.0,'=1+1,1.0,False,'@SUM(A1),False" in (tmp_path / "film.csv").read_text()
    assert json.loads((tmp_path / "film.json").read_text())["moments"][0]["label"] == "=1+1"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "00:00.0"), (3.25, "00:03.2"), (59.96, "01:00.0"), (3599.99, "1:00:00.0"), (7265.4, "2:01:05.4")],
)
def test_times_are_written_as_players_do(seconds, expected):
    assert clock(seconds) == expected


def test_contact_sheet_takes_labels_of_any_length():
    cell = Seen(0, "", 0, False, jpeg())
    segments = [
        {"start_s": number, "end_s": number + 1, "label": "long " * number, "unknown": False}
        for number in range(MAX_CELLS)
    ]
    assert draw_sheet([(segment, cell) for segment in segments]).width < 1400


def jpeg(colour="red"):
    stream = io.BytesIO()
    Image.new("RGB", (240, 180), colour).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.real
def test_cockatoo_is_seen_throughout_its_film(real_data):
    from retrain import load_imagenet

    guess = guess_film(load_imagenet(), real_data / "video" / "cockatoo.mp4")
    cockatoo = sum(
        each["end_s"] - each["start_s"]
        for each in guess.segments
        if each["label"].startswith("sulphur-crested cockatoo")
    )
    assert cockatoo >= 0.8 * 14
    assert len(guess.segments) <= 2
