"""label_image.py and its kin, with the model in tf_files: each prints as it did."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest

from retrain import Classifier
from retrain.compat import main
from retrain.imagenet import load_imagenet

GUESS_LINE = r"(\w[\w ]*) \(score = (\d\.\d{5})\)"


@pytest.fixture
def guess(model_dir, picture):
    (guess,) = Classifier.load(model_dir).guess([picture])
    return guess


@pytest.fixture
def run(capsys, model_dir):
    """run(program, argument, …): (code, lines of its output, its errors)."""

    def run(program, *arguments):
        capsys.readouterr()
        code = main(program, list(map(str, arguments)))
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return run


@pytest.fixture
def scan(sample, tmp_path):
    """A folder to be scanned: three pictures, something else, and a folder."""
    folder = tmp_path / "toScan"
    (folder / "deeper").mkdir(parents=True)
    for name in ("fish", "sun", "tree"):
        shutil.copy(sample / name / f"{name}-001.jpg", folder)
    shutil.copy(sample / "sun" / "sun-002.jpg", folder / "deeper")
    (folder / "notes.txt").write_text("no picture")
    return folder


def as_guessed(guess):
    return [f"{label} (score = {score:.5f})" for label, score in guess.scores.items()]


def test_label_image_of_tensor_guess_prints_all_labels(run, guess, picture):
    assert run("label_image.py", picture) == (0, as_guessed(guess), "")
    assert len(guess.scores) == 5


def test_label_image_of_the_poets_prints_the_time_and_five_labels(run, guess, picture):
    code, lines, _ = run("label_image.py", "--image", picture)
    assert (code, lines[0], lines[2]) == (0, "", "")
    assert re.fullmatch(r"Evaluation time \(1-image\): \d+\.\d{3}s", lines[1])
    assert lines[3:] == [f"{label} (score={score:0.5f})" for label, score in guess.scores.items()][:5]


@pytest.mark.parametrize("style", ["raw", "poets", "guess", "json"])
def test_style_is_chosen(run, guess, picture, style):
    code, lines, _ = run("label_image.py", f"--image={picture}", "--style", style)
    label, score = next(iter(guess.scores.items()))
    expected = {
        "raw": f"{label} {np.float32(score)!s}", "poets": f"{label} (score={score:.5f})",
        "guess": f"{label} (score = {score:.5f})",
    }  # fmt: skip
    assert code == 0
    if style == "json":
        assert json.loads(lines[0]) == guess.as_dict()
    else:
        assert lines[0] == expected[style]


def test_labels_are_named_by_the_file_given(run, guess, picture, tmp_path):
    names = [f"name {number}" for number in range(5)]
    (tmp_path / "labels.txt").write_text("\n".join(names) + "\n")
    _, lines, _ = run("label_image.py", picture, "--labels", tmp_path / "labels.txt")
    assert lines[0].startswith(names[sorted(guess.scores).index(guess.label)] + " (score")


def test_labels_that_do_not_match_are_an_error(run, picture, tmp_path):
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    code, lines, errors = run("label_image.py", picture, "--labels", tmp_path / "labels.txt")
    assert (code, lines) == (1, [])
    assert "there are 2 labels in" in errors
    assert "Hint:" in errors


@pytest.mark.parametrize("program", ["label_image.py", "classify.py"])
def test_file_that_is_no_picture_is_an_error(run, scan, program):
    code, lines, errors = run(program, scan / "notes.txt")
    assert (code, lines) == (1, [])
    assert "notes.txt: not_an_image" in errors


@pytest.mark.parametrize("program", ["label_image.py", "classify.py"])
def test_picture_that_is_not_there_is_an_error(run, tmp_path, program):
    code, _, errors = run(program, tmp_path / "none.jpg")
    assert code == 1
    assert "none.jpg: unreadable (No such file or directory)" in errors


def test_label_image_needs_a_picture(run):
    code, _, errors = run("label_image.py")
    assert code == 1
    assert "--image names it" in errors


def test_without_model_and_graph_it_says_what_to_do(run, model_dir, picture):
    shutil.rmtree(model_dir)
    code, _, errors = run("label_image.py", picture)
    assert code == 1
    assert "there is neither model/ nor retrained_graph.pb in" in errors


def test_labels_are_printed_in_the_old_form(run, model_dir, picture):
    manifest = json.loads((model_dir / "model.json").read_text())
    manifest["classes"] = [name.upper() + "!" for name in manifest["classes"]]
    (model_dir / "model.json").write_text(json.dumps(manifest))
    _, lines, _ = run("classify.py", picture)
    assert lines[0].startswith("tree  (score = ")


def test_classify_prints_all_labels(run, guess, picture, sample):
    assert run("classify.py", picture)[:2] == (0, as_guessed(guess))
    code, lines, _ = run("classify.py", picture, sample / "sun" / "sun-000.jpg")
    assert (code, len(lines), lines[0]) == (0, 12, str(picture))


def test_predict_takes_folders(run, scan, tmp_path, monkeypatch):
    code, lines, errors = run("predict.py", scan)
    assert code == 3
    assert "notes.txt: not_an_image" in errors
    assert [line for line in lines if line.endswith(".jpg")] == [
        str(scan / name) for name in ("deeper/sun-002.jpg", "fish-001.jpg", "sun-001.jpg", "tree-001.jpg")
    ]
    assert re.fullmatch(GUESS_LINE, lines[1])
    (scan / "notes.txt").unlink()
    scan.rename(tmp_path / "unknow_images")
    monkeypatch.chdir(tmp_path)
    assert run("predict.py")[:2] == (0, [line.replace(str(scan), "unknow_images") for line in lines])


def test_predict_takes_a_list_in_base64(run, guess, picture, tmp_path, monkeypatch):
    text = base64.b64encode(picture.read_bytes()).decode()
    (tmp_path / "list.json").write_text(json.dumps([text, f"data:image/jpeg;base64,{text}"]))
    expected = ["picture 1", *as_guessed(guess), "picture 2", *as_guessed(guess)]
    assert run("predict.py", "--base64", tmp_path / "list.json")[:2] == (0, expected)
    monkeypatch.setattr("sys.stdin", io.StringIO((tmp_path / "list.json").read_text()))
    assert run("predict.py", "--base64", "-")[:2] == (0, expected)
    for content in ('{"a": 1}', "[3]", "no list", '["/9j"]'):
        (tmp_path / "list.json").write_text(content)
        code, lines, errors = run("predict.py", "--base64", tmp_path / "list.json")
        assert code in (1, 3)
        assert not lines
        assert errors


@pytest.mark.parametrize("flag", ["--image_file", "--image-file"])
def test_classify_image_names_imagenet_s_classes(run, picture, flag):
    guess = load_imagenet().guess_file(picture)
    assert run("classify_image.py", flag, picture)[:2] == (0, as_guessed(guess)[:5])
    assert run("classify_image.py", f"{flag}={picture}", "--num_top_predictions", "2")[1] == as_guessed(guess)[:2]


def test_classify_image_looks_for_the_panda(run, picture, tmp_path):
    code, _, errors = run("classify_image.py", "--model_dir", tmp_path)
    assert code == 1
    assert "cropped_panda.jpg" in errors
    shutil.copy(picture, tmp_path / "cropped_panda.jpg")
    assert run("classify_image.py", "--model_dir", tmp_path)[0] == 0


def test_label_dir_copies_under_the_labels(run, scan, tmp_path):
    out = tmp_path / "scanned"
    code, lines, errors = run("label_dir.py", scan, out)
    assert code == 3
    assert "notes.txt: not_an_image" in errors
    guesses = {guess.path: guess for guess in Classifier.load().guess_files(sorted(scan.glob("*.jpg")))}
    expected = []
    for path, guess in guesses.items():
        name = f"{guess.label}--{str(np.float32(guess.confidence))[2:7]}.jpg"
        expected += [path, name, *as_guessed(guess)]
        assert (out / name).read_bytes() == (scan / path).read_bytes()
    assert lines == expected
    assert len(list(out.iterdir())) == 3


@pytest.mark.parametrize(("score", "digits"), [(1.0, "0"), (0.5, "5"), (0.9, "9"), (0.99636, "99636")])
def test_label_dir_names_by_the_digits_of_the_score(run, scan, tmp_path, score, digits, monkeypatch):
    def guess_files(self, paths):
        from retrain.classifier import Guess

        return (Guess(str(path), "sun", score, {"sun": score}) for path in paths if path.suffix == ".jpg")

    monkeypatch.setattr(Classifier, "guess_files", guess_files)
    assert run("label_dir.py", scan, tmp_path / "out")[0] == 0
    # The original wrote all three over one another.
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"sun--{digits}.jpg", f"sun--{digits}-2.jpg", f"sun--{digits}-3.jpg"}
    run("label_dir.py", scan, tmp_path / "out")  # what is there already is not copied again
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_label_dir_keeps_the_kind_of_a_file(run, scan, tmp_path):
    (scan / "sun-001.jpg").rename(scan / "sun.JPEG")
    run("label_dir.py", scan, tmp_path / "out")
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".jpeg", ".jpg", ".jpg"]


@pytest.mark.parametrize("program", ["label_dir.py", "label_image_tojson.py"])
def test_scanning_needs_two_folders(run, scan, tmp_path, program):
    code, _, errors = run(program, tmp_path / "none", tmp_path / "out")
    assert code == 1
    assert "there is no folder" in errors
    code, _, errors = run(program, scan, scan)
    assert code == 1
    assert "holds the pictures themselves" in errors


def test_label_image_tojson_lists_all(run, scan, tmp_path):
    shutil.copy(scan / "sun-001.jpg", scan / "tree-001.png")  # as tree-001.jpg without its suffix
    code, _, _ = run("label_image_tojson.py", scan, tmp_path / "scanned")
    assert code == 3
    found = json.loads((tmp_path / "scanned" / "res.json").read_text())
    assert sorted(found) == ["fish-001", "sun-001", "tree-001", "tree-001.png"]
    (guess,) = Classifier.load().guess([scan / "fish-001.jpg"])
    assert found["fish-001"] == guess.scores
    assert [path.name for path in (tmp_path / "scanned").iterdir()] == ["res.json"]
