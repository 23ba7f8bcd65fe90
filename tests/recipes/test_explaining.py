import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import retrain.tf
from retrain import ExplainOptions, RetrainError, explain_pictures
from retrain.backbones import Backbone
from retrain.classifier import Classifier
from retrain.recipes.explaining import KINDS

KEYS = ["path", "label", "confidence", "unknown", *KINDS, "error"]


def explain(paths, out, **options):
    return list(explain_pictures(paths, out, ExplainOptions(**options)))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_picture_gets_three_files_and_a_row(sample, model_dir, tmp_path):
    paths = sorted((sample / "sun").iterdir())[:3]
    rows = explain(paths, tmp_path / "new" / "out")
    guesses = list(Classifier.load().guess(paths))
    assert [list(row) for row in rows] == [KEYS] * 3
    assert [(row["path"], row["label"], row["confidence"]) for row in rows] == [
        (guess.path, guess.label, guess.confidence) for guess in guesses
    ]
    written = [Path(row[kind]) for row in rows for kind in KINDS]
    assert sorted(written) == sorted((tmp_path / "new" / "out").iterdir())
    assert written[0].name == f"{paths[0].stem}-original.jpg"
    for path in written:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (96, 96))
    assert json.loads(json.dumps(rows)) == rows


def test_heat_map_differs_with_the_label(picture, model_dir, tmp_path):
    (tree,), (sun,) = (explain([picture], tmp_path / name, label=name) for name in ("tree", "sun"))
    assert (tree["label"], sun["label"]) == ("tree", "sun")
    scores = Classifier.load().guess_file(picture).scores
    assert (tree["confidence"], sun["confidence"]) == (scores["tree"], scores["sun"])
    assert Path(tree["original"]).read_bytes() == Path(sun["original"]).read_bytes()
    assert Path(tree["heatmap"]).read_bytes() != Path(sun["heatmap"]).read_bytes()


def test_nothing_is_overwritten(picture, model_dir, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "tree-000-segment.jpg").write_text("mine")
    (first,), (second,) = explain([picture], out), explain([picture], out)
    assert Path(first["original"]).name == "tree-000-2-original.jpg"
    assert Path(second["original"]).name == "tree-000-3-original.jpg"
    assert (out / "tree-000-segment.jpg").read_text() == "mine"
    assert len(names(out)) == 7


def test_pictures_of_one_name_are_numbered_in_their_order(sample, model_dir, tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
    shutil.copy(sample / "sun" / "sun-000.jpg", tmp_path / "a" / "same.jpg")
    shutil.copy(sample / "tree" / "tree-000.jpg", tmp_path / "b" / "Same.jpg")
    rows = explain([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert [Path(row["heatmap"]).name for row in rows] == ["same-heatmap.jpg", "Same-2-heatmap.jpg"]


def test_bad_file_is_a_row_with_its_error(picture, model_dir, tmp_path):
    (tmp_path / "words.jpg").write_text("words")
    (tmp_path / "empty.jpg").touch()
    rows = explain([tmp_path / "words.jpg", picture, tmp_path / "empty.jpg"], tmp_path / "out")
    assert [row["error"] and row["error"].split()[0] for row in rows] == ["not_an_image", None, "empty"]
    assert [list(row) for row in rows] == [KEYS] * 3
    assert not any(rows[0][key] for key in KEYS[1:-1])
    assert len(names(tmp_path / "out")) == 3


def test_large_picture_is_written_smaller(model_dir, tmp_path):
    Image.fromarray(np.zeros((100, 4000, 3), np.uint8)).save(tmp_path / "wide.png")
    (row,) = explain([tmp_path / "wide.png"], tmp_path / "out")
    for kind in KINDS:
        with Image.open(row[kind]) as image:
            assert image.size == (1600, 40)


def test_unknown_label_is_an_error_with_the_nearest(picture, model_dir, tmp_path):
    with pytest.raises(RetrainError, match="no label 'fisch'") as caught:
        explain([picture], tmp_path / "out", label="fisch")
    assert "fish" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["photos", "photos/out", "photos/deeper/../out"])
def test_folder_among_the_pictures_is_refused(picture, model_dir, tmp_path, out):
    (tmp_path / "photos").mkdir()
    shutil.copy(picture, tmp_path / "photos")
    with pytest.raises(RetrainError, match="whose pictures it would join") as caught:
        explain([tmp_path / "photos"], tmp_path / out)
    assert caught.value.hint
    assert names(tmp_path / "photos") == [picture.name]


def test_place_that_cannot_be_written_is_a_clear_error(picture, model_dir, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RetrainError, match="cannot write to") as caught:
        explain([picture], tmp_path / "file" / "out")
    assert caught.value.hint


def test_encoder_that_fails_says_why(picture, model_dir, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError("encoder error -2")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(RetrainError, match="encoder error -2"):
        explain([picture], tmp_path / "out")


def test_missing_tensorflow_is_an_error_at_once_where_maps_need_it(picture, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(Backbone, "has_feature_map", False)
    monkeypatch.setattr(retrain.tf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="needs TensorFlow") as caught:
        explain([picture], tmp_path / "out")
    assert "retrain[tf]" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_full_disk_is_a_clear_error(picture, model_dir, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RetrainError, match="No space left"):
        explain([picture], tmp_path / "out")


@pytest.mark.parametrize(("name", "message"), [("nothing", "no files under"), ("gone", "there is no file or folder")])
def test_no_pictures_are_a_clear_error_and_make_no_folder(model_dir, tmp_path, name, message):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RetrainError, match=message):
        explain([tmp_path / name], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["--json.jpg", "$(touch pwned).jpg", "a:b?.jpg", "CON.jpg", "...", "日本.jpg", "x" * 250]
)
def test_any_name_gives_a_name_that_every_file_system_takes(picture, model_dir, tmp_path, name):
    (tmp_path / "in").mkdir()
    shutil.copy(picture, tmp_path / "in" / name)
    (row,) = explain([tmp_path / "in" / name], tmp_path / "out")
    assert not set(Path(row["heatmap"]).name) & set('\\:*?"<>|')
    assert len(names(tmp_path / "out")) == 3
