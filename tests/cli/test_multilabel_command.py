import json
import re
import shutil

import pytest
from labelled import draw_labelled

from retrain import Classifier


@pytest.fixture
def model_dir(trained_on_labels, tmp_path):
    """A model folder of the test's own, at the default place."""
    shutil.copytree(trained_on_labels[0], tmp_path / "tf_files")
    return tmp_path / "tf_files" / "model"


@pytest.fixture
def pictures(labelled, model_dir):
    """{how many labels are told: a picture of test/}."""
    guesses = Classifier.load().guess_files(sorted((labelled / "test").glob("*.jpg")))
    return {len(guess.labels): guess for guess in guesses}


def test_guess_begins_with_the_labels_above_their_thresholds(run, pictures):
    code, out, _ = run("guess", pictures[2].path)
    first, *scores = out.decode().splitlines()
    assert code == 0
    assert first == f"labels: {', '.join(pictures[2].labels)}"
    assert scores == [f"{name} (score = {score:.5f})" for name, score in pictures[2].scores.items()]


def test_guess_says_none_where_no_label_is(run, pictures):
    _, out, _ = run("guess", pictures[0].path, "--top", "1")
    assert re.fullmatch(r"none; nearest:\n\w+ \(score = 0\.\d{5}\)\n", out.decode())


def test_guess_prints_the_labels_as_json(run, pictures):
    _, out, _ = run("guess", "--json", pictures[0].path, pictures[2].path)
    none, two = map(json.loads, out.splitlines())
    assert (none["labels"], none["unknown"]) == ([], True)
    assert (two["labels"], two["unknown"], two["label"]) == (pictures[2].labels, False, pictures[2].labels[0])


def test_train_prints_mean_average_precision_and_a_line_a_label(run, labelled):
    code, out, _ = run("train", labelled, "--no-report")
    lines = [re.split(" {2,}", line) for line in out.decode().splitlines()]
    assert code == 0
    assert lines[0] == ["300 pictures, 1.00 labels on each of 3 labels: fish, house, sun"]
    assert re.match(r"Mean average precision on 60 pictures kept back: [\d.]+ % \(95 % interval ", lines[1][0])
    assert [line[0] for line in lines[2:4]] == ["F1, mean of the labels", "subset accuracy"]
    header = next(number for number, line in enumerate(lines) if line[0] == "label")
    assert lines[header][1:3] == ["pictures", "told from"]
    assert [line[0] for line in lines[header + 1 : header + 4]] == ["fish", "house", "sun"]
    assert all(len(line) == 7 for line in lines[header + 1 : header + 4])


def test_train_and_evaluate_with_bad_rows_are_done_with_exit_code_3(run, tmp_path):
    draw_labelled(tmp_path / "data", 30)
    with open(tmp_path / "data" / "labels.csv", "a", encoding="utf-8") as file:
        file.write("gone.jpg,sun\n")
    for command in ("train", "evaluate"):
        code, out, err = run(command, tmp_path / "data")
        assert code == 3
        assert b"Mean average precision" in out
        assert f"skipped {tmp_path}/data/gone.jpg: bad row of labels.csv: no such file, line 32\n" in err


def test_train_takes_class_folders_that_share_pictures(run, sample, tmp_path):
    for name in ("fish", "sun"):
        shutil.copytree(sample / name, tmp_path / "data" / name)
        shutil.copy(sample / "tree" / "tree-000.jpg", tmp_path / "data" / name)
    code, out, _ = run("train", tmp_path / "data", "--multi-label", "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["multi_label"], result["images"]) == (True, 49)
    assert result["labels_per_image"] == pytest.approx(50 / 49)


def test_evaluate_prints_each_label_and_writes_a_page(run, labelled, model_dir, tmp_path):
    code, out, _ = run("evaluate", labelled, "--html", tmp_path / "page.html")
    assert code == 0
    assert re.match(rb"Mean average precision on 60 pictures: [\d.]+ % ", out)
    assert re.search(rb"^house +\d+ +0\.\d{3} +[\d.]+ \(", out, re.MULTILINE)
    assert out.decode().splitlines()[-1].startswith("95 % intervals: ")
    assert "mean average precision" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize("option", ["--coverage", "--reject-rate"])
def test_promises_about_one_label_are_one_clear_error(run, pictures, option):
    code, out, err = run("guess", pictures[2].path, option, "0.9")
    assert (code, out) == (1, b"")
    assert re.fullmatch(r"Error: .*several labels.*\nHint: .*\n", err)
