"""classifier_training.py and the odd-one-out script: those that crawl what they learn from."""

import re
import shutil

import pytest

from retrain import Classifier, OddOptions, find_odd_one_out
from retrain.compat import main

ODD = "Image-Recognition-ReCaptcha-Fooling.py"


@pytest.fixture
def trees(sample):
    return sorted((sample / "tree").iterdir())[:4]


@pytest.fixture
def taught(sample, tmp_path):
    """Pictures of two classes in the data folder, so that nothing has to be crawled."""
    for name in ("fish", "tree"):
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / name)


def test_classifier_training_learns_and_guesses(sample, taught, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(sample / "fish", tmp_path / "holiday")
    assert main("classifier_training.py", ["-c", "tree, fish", "-p", "~/holiday", "-t", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = re.fullmatch(r"(\d+) images, (\d+) over the threshold, (\d+) missed", lines[0])
    images, over, missed = map(int, counts.groups())
    assert images == over + missed == 24
    assert over > 12
    assert lines[1] == f"fish: {over}"
    assert (tmp_path / "results" / "fish").is_dir()
    assert main("classifier_training.py", ["--classes=fish,tree", "--prediction_path", "holiday", "-t", "1"]) == 0
    assert "nothing is trained" in caplog.text  # whatever the order of the classes
    assert capsys.readouterr().out.startswith("24 images, ")


@pytest.mark.parametrize("arguments", [["-c", "cat,dog"], ["-p", "."], []])
def test_classifier_training_needs_classes_and_a_folder(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main("classifier_training.py", arguments)
    assert ended.value.code == 2
    assert "required" in capsys.readouterr().err


def test_threshold_of_classifier_training_is_a_share(tmp_path, capsys):
    assert main("classifier_training.py", ["-c", "cat,dog", "-p", str(tmp_path), "-t", "99"]) == 1
    assert "the threshold is 99.0" in capsys.readouterr().err


def test_odd_script_prints_each_label_of_each_picture_and_the_odd_one_last(sample, model_dir, trees, capsys):
    fish = sample / "fish" / "fish-000.jpg"
    assert main(ODD, ["tree", *map(str, [*trees, fish])]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = [
        f"{guess.path} is a {label} (score = {score:.5f})"
        for guess in Classifier.load().guess_files([*trees, fish])
        for label, score in guess.scores.items()
    ]
    assert lines == [*expected, f"The one that is not a tree is: {fish}"]


def test_odd_script_learns_a_label_that_is_new(sample, trees, taught, capsys, caplog):
    fish = sample / "fish" / "fish-000.jpg"
    assert main(ODD, ["tree", *map(str, [*trees, fish])]) == 0
    assert "No model knows tree" in caplog.text
    assert capsys.readouterr().out.endswith(f"The one that is not a tree is: {fish}\n")


def test_odd_script_goes_by_the_pictures_of_the_label_where_there_is_no_other(sample, trees, taught, tmp_path, capsys):
    shutil.rmtree(tmp_path / "tf_files" / "data" / "fish")
    sun = sample / "sun" / "sun-000.jpg"
    assert main(ODD, ["tree", *map(str, [*trees, sun])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    told = [re.fullmatch(r"(\S+) is a tree \(score = (-?\d\.\d{5})\)", line).groups() for line in lines[:5]]
    least = min(told, key=lambda row: float(row[1]))[0]
    assert lines[5] == f"The one that is not a tree is: {least}"


def test_odd_script_names_one_where_none_is_odd(sample, model_dir, trees, capsys, caplog, tmp_path):
    assert main(ODD, ["tree", *map(str, trees)]) == 0
    scores = find_odd_one_out(trees, OddOptions(label="tree"))["scores"]
    least = max(scores, key=scores.get)
    assert capsys.readouterr().out.endswith(f"The one that is not a tree is: {least}\n")
    assert "None stands out" in caplog.text
    (tmp_path / "words.jpg").write_text("words")
    assert main(ODD, ["tree", *map(str, trees), str(tmp_path / "words.jpg")]) == 3


def test_odd_script_names_the_oddest_last(sample, model_dir, trees, capsys):
    others = [str(sample / name / f"{name}-000.jpg") for name in ("fish", "sun")]
    assert main(ODD, ["tree", *map(str, trees), *others]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert {line.removeprefix("The one that is not a tree is: ") for line in lines} == set(others)
    doubts = {guess.path: guess.scores["tree"] for guess in Classifier.load().guess_files(others)}
    assert lines[-1].endswith(min(doubts, key=doubts.get))


def test_odd_script_without_pictures_is_an_error(model_dir, tmp_path, capsys):
    assert main(ODD, ["tree", str(tmp_path / "none.jpg")]) == 1
    assert "none.jpg" in capsys.readouterr().err
