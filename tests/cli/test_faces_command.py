import json
import os
import shutil

import numpy as np
import pytest
from drawn_faces import draw_people, people, use_discs  # noqa: F401 - a fixture
from PIL import Image

from retrain import TrainOptions, train

KEYS = ["path", "label", "confidence", "scores", "unknown", "candidates", "labels", "error", "box"]


@pytest.fixture(scope="module")
def taught(people, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        use_discs(patch)
        train(people, TrainOptions(model_dir=folder / "model", faces=True, report=False))
    return folder


@pytest.fixture
def photos(taught, tmp_path, monkeypatch):
    """Photos to guess, with a model of faces at the default place."""
    use_discs(monkeypatch)
    shutil.copytree(taught, tmp_path / "tf_files")
    draw_people(tmp_path / "photos" / "couple.jpg", "ben", "anna", seed=31)
    draw_people(tmp_path / "photos" / "wall.jpg")
    return tmp_path / "photos"


def test_train_on_faces_tells_what_is_left_out(run, people, monkeypatch):  # noqa: F811
    use_discs(monkeypatch)
    code, out, err = run("train", people, "--faces", "--no-report")
    assert code == 3
    assert b"24 pictures, 3 classes: anna, ben, cleo" in out
    assert "nobody.jpg: no_face (no face was found on it)" in err
    assert "with-ben.jpg: several_faces (2 faces" in err
    assert "GDPR" in err


def test_guess_prints_a_result_a_face_with_its_box(run, photos):
    code, out, _ = run("guess", "--faces", "--top", "1", photos / "couple.jpg")
    first, ben, second, anna = [line for line in out.decode().splitlines() if "nearest" not in line]
    assert code == 0
    assert first.startswith("face at ")
    assert first.endswith(" px")
    assert (ben.split()[0], anna.split()[0]) == ("ben", "anna")
    assert int(second.split()[2].partition(",")[0]) > int(first.split()[2].partition(",")[0])


def test_guess_says_where_no_face_is(run, photos):
    code, out, _ = run("guess", "--faces", photos / "wall.jpg")
    assert (code, out) == (0, b"no face\n")


def test_guess_of_faces_as_json_has_all_keys_always(run, photos):
    (photos / "text.jpg").write_text("words")
    code, out, _ = run("guess", "--faces", "--json", photos)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [list(row) for row in rows] == [KEYS] * 4
    assert [row["label"] for row in rows] == ["ben", "anna", None, None]
    left, top, width, height = rows[0]["box"]
    assert 0 <= left < left + width < rows[1]["box"][0]
    assert 0 <= top < top + height <= 160
    assert (rows[2]["error"], rows[2]["box"]) == ("not_an_image (the content is text/plain)", None)
    assert (rows[3]["error"], rows[3]["box"], rows[3]["scores"]) == (None, None, {})


def test_faces_are_guessed_from_standard_input(run, photos):
    code, out, _ = run("guess", "--faces", "--json", "-", stdin=(photos / "couple.jpg").read_bytes())
    assert code == 0
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["ben", "anna"]


def test_file_that_cannot_be_read_is_a_row_like_the_others(run, photos, tmp_path):
    os.mkfifo(photos / "pipe.jpg")
    code, out, _ = run("guess", "--faces", "--json", "--boxes", tmp_path / "drawn", photos)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [row["boxes"] is None for row in rows] == [False, False, True, True]
    assert (rows[2]["path"], rows[2]["error"][:10]) == (str(photos / "pipe.jpg"), "unreadable")


def test_boxes_are_drawn_on_copies_that_overwrite_nothing(run, photos, tmp_path):
    drawn, before = tmp_path / "drawn", (photos / "couple.jpg").read_bytes()
    drawn.mkdir()
    (drawn / "couple.jpg").write_text("mine")
    code, out, _ = run("guess", "--faces", "--json", "--boxes", drawn, photos)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["boxes"] for row in rows] == [str(drawn / "couple-2.jpg")] * 2 + [None]
    assert (drawn / "couple.jpg").read_text() == "mine"
    assert (photos / "couple.jpg").read_bytes() == before
    changed = np.abs(
        np.asarray(Image.open(drawn / "couple-2.jpg"), int) - np.asarray(Image.open(photos / "couple.jpg"), int)
    ).max(axis=2) > 60  # fmt: skip
    left, top, _, height = rows[0]["box"]
    assert changed[top + height // 2, max(0, left - 2) : left + 5].any()
    assert not changed[:5].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--boxes", "drawn"], "--boxes is for --faces"),
        (["--faces", "--explain", "why"], "--explain is for whole pictures"),
        (["--faces", "--graph", "graph.pb"], "--graph is for whole pictures"),
        (["--faces", "--boxes", "drawn", "-"], "not for standard input"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, photos, arguments, words):
    code, _, err = run("guess", *arguments, *([] if "-" in arguments else [photos]))
    assert code == 2
    assert words in err


def test_crawled_photos_need_a_word_of_consent(run, photos):
    (photos / "manifest.jsonl").write_text("{}\n")
    code, _, err = run("guess", "--faces", photos)
    assert code == 1
    assert "--i-have-consent" in err
    assert run("guess", "--faces", "--i-have-consent", photos / "couple.jpg")[0] == 0


def test_ordinary_guess_refuses_a_model_of_faces(run, photos):
    code, out, err = run("guess", photos)
    assert (code, out) == (1, b"")
    assert "knows people by their faces" in err


def test_sort_by_faces_says_how_many_have_none(run, photos, tmp_path):
    code, out, _ = run("sort", "--faces", photos, tmp_path / "sorted")
    assert code == 0
    assert b"no_face" in out
    assert (tmp_path / "sorted" / "_no_face" / "wall.jpg").exists()


def test_faces_lists_whose_are_kept(run, photos):
    assert run("faces")[1].decode().split() == ["8", "anna", "8", "ben", "8", "cleo"]
    assert json.loads(run("faces", "--json")[1]) == {"anna": 8, "ben": 8, "cleo": 8}
    assert run("faces", "--model-dir", "elsewhere/model") == (0, b"No faces are kept.\n", "")


def test_nobody_is_forgotten_unasked(run, photos):
    code, _, err = run("faces", "--forget", "anna")
    assert code == 2
    assert "--yes" in err
    assert "anna" in run("faces")[1].decode()


def test_forget_says_what_it_deleted(run, photos):
    code, out, _ = run("faces", "--forget", "anna", "--yes")
    assert code == 0
    assert b"8 face(s) and 16 row(s) of the embedding store deleted." in out
    assert b"model deleted" in out
    code, _, err = run("faces", "--forget", "bens", "--yes")
    assert code == 1
    assert "There is: ben" in err
