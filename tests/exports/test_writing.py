"""What is written without TensorFlow: its metadata, its README, the head fitted anew, the zip; and what is not."""

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrain import Classifier, ExportOptions, RetrainError, TrainOptions, export, train
from retrain.backbones import load_backbone
from retrain.backbones.files import SHIPPED
from retrain.calibrate import Limits
from retrain.exports import FORMATS, checking, load_format, refitting, require_formats
from retrain.exports.describing import Subject, describe
from retrain.exports.metadata import metadata
from retrain.exports.refitting import find_pictures, in_float
from retrain.head import Head
from retrain.model import load_model, save_model

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def int8(model_dir, tmp_path):
    """The folder of an export of the drawn model."""
    export(["tflite-int8"], ExportOptions(out=tmp_path / "out"))
    return tmp_path / "out" / "tflite-int8"


def run_readme(folder, picture):
    """What the code in a README prints, run as it says."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert (folder / "run.py").read_text() == code
    done = subprocess.run([sys.executable, "run.py", picture], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_format_has_what_the_registry_promises():
    for name, kind in FORMATS.items():
        module = load_format(name)
        assert callable(module.write)
        assert module.NEEDS
        assert hasattr(module, "run") == kind.is_run
        compile(re.sub(r"\$\w+", "0", module.CODE), name, "exec")


def test_unknown_format_is_named_with_its_nearest():
    with pytest.raises(RetrainError, match="no format 'onx'") as caught:
        require_formats(["zip", "onx"])
    assert caught.value.hint == "There is: onnx."


def test_code_of_the_readme_says_what_guess_says(int8, picture):
    (guess,) = Classifier.load().guess([picture])
    label, score = re.match(r"(\S+) \(score = (\S+)\)\n", run_readme(int8, picture)).groups()
    assert (label, float(score)) == (guess.label, pytest.approx(guess.confidence, abs=2e-5))


def test_lines_of_the_readme_say_what_guess_says(model_dir, tmp_path, picture):
    export(["tflite-int8"])
    (code,) = re.findall(r"```python\n([^`]*get_signature_runner.*?)```", README.read_text("utf-8"), re.DOTALL)
    shutil.copy(picture, tmp_path / "picture.jpg")
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    (guess,) = Classifier.load().guess([picture])
    label, score = said.split()
    assert (label, float(score)) == (guess.label, pytest.approx(guess.confidence, abs=1e-5))


def test_export_names_nothing_of_this_machine(int8, tmp_path):
    content = b"".join(path.read_bytes() for path in int8.iterdir())
    assert str(tmp_path).encode() not in content
    assert b"pytest" not in content


def test_description_lies_beside_the_model(int8, model_dir):
    described, model = json.loads((int8 / "metadata.json").read_text()), load_model(model_dir)
    assert described["labels"] == (int8 / "labels.txt").read_text().splitlines() == model.classes
    assert (described["temperature"], described["image_size"]) == (model.temperature, 224)
    assert described["checked_on"] == "16 of its own pictures"


def test_mediapipe_takes_the_file_as_it_is(int8, picture):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    square = load_backbone("efficientnet-lite0").to_input(Image.open(picture))
    options = vision.ImageClassifierOptions(BaseOptions(model_asset_buffer=(int8 / "model.tflite").read_bytes()))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=square)
        found = classifier.classify(image).classifications[0].categories
    (guess,) = Classifier.load().guess([picture])
    assert {each.category_name: pytest.approx(each.score, abs=1e-4) for each in found} == guess.scores


def test_metadata_are_those_of_the_published_schema():
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema

    described = {"image_size": 300, "made_by": "retrain", "preprocessing": {"crop": "the middle"}}
    model = schema.ModelMetadataT.InitFromPackedBuf(metadata(described), 0)
    (graph,) = model.subgraphMetadata
    (entry,), (exit_,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert (model.name, model.author, model.minParserVersion) == (b"ImageClassifier", b"retrain", b"1.0.0")
    image = entry.content.contentProperties
    assert (image.colorSpace, image.defaultSize.width, image.defaultSize.height) == (
        schema.ColorSpaceType.RGB,
        300,
        300,
    )
    (normalization,) = [unit.options for unit in entry.processUnits]
    assert (normalization.mean.tolist(), normalization.std.tolist()) == ([0], [1])
    (labels,) = exit_.associatedFiles
    assert (labels.name, labels.type) == (b"labels.txt", schema.AssociatedFileType.TENSOR_AXIS_LABELS)
    assert (exit_.stats.min.tolist(), exit_.stats.max.tolist()) == ([0], [1])


def test_zip_holds_the_model_and_nothing_else(model_dir, tmp_path, picture):
    (model_dir / "mine.txt").write_text("mine")
    contents = []
    for name in ("one", "two"):
        export(["zip"], ExportOptions(out=tmp_path / name))
        contents.append((tmp_path / name / "zip" / "model.zip").read_bytes())
    assert contents[0] == contents[1]
    names = zipfile.ZipFile(io.BytesIO(contents[0])).namelist()
    assert names == ["model/model.json", "model/backbone.tflite", "model/head.npz", "model/trust.npz"]
    (guess,) = Classifier.load().guess([picture])
    said = run_readme(tmp_path / "two" / "zip", picture).split()
    assert (said[0], float(said[1])) == (guess.label, pytest.approx(guess.confidence, abs=1e-6))


def test_damaged_model_is_not_packed(model_dir, tmp_path):
    (model_dir / "head.npz").write_bytes(b"damaged")
    with pytest.raises(RetrainError, match="damaged"):
        export(["zip"], ExportOptions(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_difference_over_the_bound_leaves_nothing(model_dir, tmp_path, monkeypatch):
    export(["tflite-int8"], ExportOptions(out=tmp_path / "out"))
    before = (tmp_path / "out" / "tflite-int8" / "model.tflite").read_bytes()
    monkeypatch.setattr(load_format("tflite-int8"), "run", lambda folder: lambda pixels: np.full((len(pixels), 5), 0.2))
    with pytest.raises(RetrainError, match="tflite-int8 is not written: its probabilities differ"):
        export(["tflite-int8"], ExportOptions(out=tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tflite-int8"]
    assert (tmp_path / "out" / "tflite-int8" / "model.tflite").read_bytes() == before


def test_without_pictures_it_is_checked_on_drawn_ones(model_dir, tmp_path):
    (model_dir.parent / "bottlenecks.sqlite").unlink()
    (result,) = export(["tflite-int8"], ExportOptions(out=tmp_path / "out"))
    assert result["checked_on"] == "16 drawn pictures"


def test_pictures_that_data_names_are_called_so(model_dir, tmp_path, sample):
    (result,) = export(["tflite-int8"], ExportOptions(out=tmp_path / "out", data=sample))
    assert result["checked_on"] == "16 pictures that --data named"


def test_data_without_pictures_is_refused(model_dir, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "text.jpg").write_text("text")
    with pytest.raises(RetrainError, match=r"there are no pictures in .*texts"):
        export(["tflite-int8"], ExportOptions(out=tmp_path / "out", data=tmp_path / "texts"))


@pytest.mark.parametrize(("length", "most"), [(31, 16), (177, 16), (9999, 5000), (7, 16), (0, 16)])
def test_some_of_many_are_spread_from_end_to_end(length, most):
    found = refitting.spread(list(range(length)), most)
    assert len(found) == min(length, most)
    assert not found or (found[0] == 0 and length - found[-1] <= -(-length // most))
    assert found == sorted(set(found))


def test_link_in_an_export_makes_it_another_one(int8, tmp_path):
    (int8 / "link").symlink_to(tmp_path)
    with pytest.raises(RetrainError, match="not as an export has left it"):
        export(["tflite-int8"], ExportOptions(out=int8.parent))
    (int8 / "link").unlink()
    export(["tflite-int8"], ExportOptions(out=int8.parent))


def test_sense_of_the_unknown_is_said_to_be_left_out_where_there_was_one(model_dir, int8, tmp_path):
    assert load_model(model_dir).detector
    assert "something unknown, this does not" in (int8 / "README.md").read_text()
    model = load_model(model_dir)
    model.detector, model.limits = None, Limits()
    save_model(model, tmp_path / "model")
    export(["tflite-int8"], ExportOptions(tmp_path / "model", tmp_path / "other"))
    assert "unknown" not in (tmp_path / "other" / "tflite-int8" / "README.md").read_text()


def test_brought_network_can_be_exported_as_it_is(data, tmp_path, picture):
    shutil.copy(SHIPPED / "efficientnet-lite0.tflite", tmp_path / "own.tflite")
    train(data, TrainOptions(backbone=str(tmp_path / "own.tflite"), report=False))
    (result,) = export(["tflite"], ExportOptions(out=tmp_path / "out"))
    assert result["head"]["why"] == "it was trained on these networks"
    (guess,) = Classifier.load().guess([picture])
    assert run_readme(tmp_path / "out" / "tflite", picture).startswith(f"{guess.label} (")
    assert "Inside: own.tflite (see where it is from)." in (tmp_path / "out" / "tflite" / "README.md").read_text()


def test_brought_network_is_refused_where_it_cannot_be_rebuilt(data, tmp_path):
    shutil.copy(SHIPPED / "efficientnet-lite0.tflite", tmp_path / "own.tflite")
    train(data, TrainOptions(backbone=str(tmp_path / "own.tflite"), report=False))
    for name in ("saved_model", "keras", "onnx", "pb"):
        with pytest.raises(RetrainError, match=r"own\.tflite is there as a LiteRT file alone") as caught:
            export([name], ExportOptions(out=tmp_path / "out"))
        assert caught.value.hint == "Export tflite or zip."
    assert not list((tmp_path / "out").iterdir())


def test_names_of_classes_become_lines_of_utf_8(model_dir):
    model = load_model(model_dir)
    model.classes = ["caf\udce8", "caf\udce9", "two\nlines", "two lines", "\x1b[2J👨\u200d👩\u200d👧"]
    described = describe(model)
    assert described["labels"] == ["caf?", "caf? (2)", "two lines", "two lines (4)", "?[2J👨\u200d👩\u200d👧"]
    assert Subject(model, model_dir, described).labels.encode().count(b"\n") == 5


def test_several_labels_have_their_thresholds_told(trained_on_labels, tmp_path):
    folder, _ = trained_on_labels
    (result,) = export(["tflite-int8"], ExportOptions(model_dir=folder / "model", out=tmp_path / "out"))
    described = json.loads((tmp_path / "out" / "tflite-int8" / "metadata.json").read_text())
    assert described["several_labels"]
    assert described["thresholds"].keys() == set(described["labels"])
    assert "threshold in `metadata.json`" in (tmp_path / "out" / "tflite-int8" / "README.md").read_text()
    assert all(each["max"] < 1e-4 for each in result["differences"].values())


@pytest.fixture
def stand_in(monkeypatch):
    """In the place of the network in float32 stands another one, so that nothing has to be built."""
    other = load_backbone("efficientnet-lite2")
    monkeypatch.setattr(refitting, "_in_float", lambda backbone: other)
    return other


def test_head_says_of_another_network_what_it_said_before(model_dir, stand_in, sample):
    model = load_model(model_dir)
    pictures = find_pictures(model, model_dir)
    assert len(pictures) == len(model.learned)
    floated, told = in_float(model, model_dir, pictures)
    assert told == {"refitted": True, "why": None, "pictures": len(model.learned)}
    tested = [path for path in sample.rglob("*.jpg") if path not in pictures]
    jpegs = [path.read_bytes() for path in tested]
    guessed, stayed = checking.guessed(model, jpegs), checking.guessed(replace(floated, head=model.head), jpegs)
    now = checking.guessed(floated, jpegs)
    assert (now.argmax(axis=1) == guessed.argmax(axis=1)).mean() >= 0.7
    assert np.abs(now - guessed).mean() < 0.5 * np.abs(stayed - guessed).mean()


@pytest.mark.parametrize("count", [30, 120])
def test_head_is_moved_as_ridge_regression_moves_it(count):
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    before, now = random.normal(size=(2, count, 60))
    head = Head(random.normal(size=(3, 60)).astype(np.float32), np.zeros(3, np.float32))
    ridge = Ridge(alpha=refitting.STIFFNESS, fit_intercept=False).fit(now, (before - now) @ head.weights.T)
    found = refitting._refit(head, before, now)
    np.testing.assert_allclose(found.weights, head.weights + ridge.coef_, atol=1e-3)


def test_data_names_other_pictures(model_dir, stand_in, sample, tmp_path):
    (model_dir.parent / "bottlenecks.sqlite").unlink()
    shutil.copytree(sample, tmp_path / "moved")
    model = load_model(model_dir)
    assert find_pictures(model, model_dir) == []
    _, told = in_float(model, model_dir, find_pictures(model, model_dir, tmp_path / "moved"))
    assert told == {"refitted": True, "why": None, "pictures": 120}


@pytest.mark.parametrize(
    ("found", "why"), [(0, "its pictures are not found"), (19, "only 19 pictures are found, and it takes 20")]
)
def test_head_stays_where_its_pictures_are_gone(model_dir, stand_in, found, why):
    model = load_model(model_dir)
    floated, told = in_float(model, model_dir, find_pictures(model, model_dir)[:found])
    assert not told["refitted"]
    assert told["why"] == f"{why}; --data FOLDER names others"
    assert floated.head is model.head


def test_head_of_float32_stays(model_dir, monkeypatch):
    monkeypatch.setattr(refitting, "_in_float", lambda backbone: backbone)
    model = load_model(model_dir)
    assert in_float(model, model_dir, [])[1]["why"] == "it was trained on these networks"


def test_weights_of_a_network_that_learned_on_are_kept_and_checked(model_dir):
    model = load_model(model_dir)
    model.backbones[0].weights = lambda: b"weights"
    save_model(model, model_dir)
    assert load_model(model_dir).backbones[0].weights() == b"weights"
    (model_dir / "weights.npz").write_bytes(b"others")
    with pytest.raises(RetrainError, match="checksum"):
        load_model(model_dir).backbones[0].weights()
    model.backbones[0].weights = None
    save_model(model, model_dir)
    assert not (model_dir / "weights.npz").exists()


def test_bounds_are_kept_to_the_last_digit():
    ours = np.array([[0.5, 0.5], [0.9, 0.1]])
    told = checking.difference(ours + np.array([[0.001, -0.001], [0, 0]]), ours)
    assert (told["max"], told["agreed"], told["pictures"]) == (0.001, 2, 2)
    checking.require_near("onnx", told, "max", 1e-3)
    with pytest.raises(RetrainError, match=r"0\.0010 \(max\)"):
        checking.require_near("onnx", told, "max", 0.0009)
    with pytest.raises(RetrainError, match="no probabilities"):
        checking.difference(ours * np.nan, ours)
