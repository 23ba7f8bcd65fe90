import json
import re
import shutil

import pytest

from retrain.cli.evaluate import _shortfall


def cells(out):
    """Lines of the output, each cut where there are several blanks."""
    return [re.split(" {2,}", line.strip()) for line in out.decode().splitlines()]


def test_every_score_has_its_interval_and_their_kind_is_said(run, data, model_dir):
    code, out, _ = run("evaluate", data)
    names = ["balanced accuracy", "truth in the first 2", "truth in the first 3", "calibration error (ECE)"]
    found = {row[0]: row[1:] for row in cells(out)}
    assert code == 0
    assert re.match(r"Accuracy on 12 pictures: \d+\.\d % \(95 % interval \d+\.\d-\d+\.\d %\)\n", out.decode())
    for name in names:
        assert re.match(r"\d+\.\d % \(\d+\.\d-\d+\.\d %\)", *found[name])
    assert "95 % intervals: Wilson's for shares" in out.decode().splitlines()[-1]


def test_a_line_a_class_and_none_is_a_dash(run, data, model_dir):
    _, out, _ = run("evaluate", data)
    lines = {row[0]: row[1:] for row in cells(out)}
    assert lines["class"] == ["pictures", "precision %", "recall %", "F1 %"]
    assert lines["fish"][0] == "6"
    assert lines["boat"][0] == "0"
    assert lines["boat"][-1] == "-"


def test_mistakes_are_named(run, data, model_dir):
    (data / "fish").rename(data / "house")
    _, out, _ = run("evaluate", data)
    assert re.search(r"^house taken for fish: \d of 6, \d+\.\d % \(\d+\.\d-\d+\.\d %\)$", out.decode(), re.MULTILINE)


def test_threshold_prints_seven_rows_and_coverage_beside_each_accuracy(run, data, model_dir):
    result = json.loads(run("evaluate", data, "--threshold", "0.9", "--json")[1])
    _, out, _ = run("evaluate", data, "--threshold", "0.9")
    text = out.decode()
    rows = text[text.index("Guesses of confidence 0.9 or more:") :].split("\n\n")[0].splitlines()[1:]
    assert [re.split(r" {2,}", row)[0] for row in rows] == [
        "total images", "threshold images", "missed", "correctly classified", "misclassified", "total accuracy",
        "threshold accuracy",
    ]  # fmt: skip
    assert int(rows[1].split()[-1]) == round(12 * result["coverage"])
    coverage = f"coverage {100 * result['coverage']:.1f} %"
    assert all(coverage in row for row in rows if "accuracy" in row)


def test_without_threshold_there_are_no_seven_rows(run, data, model_dir):
    assert b"total images" not in run("evaluate", data)[1]


def test_unknown_pictures_get_auroc_and_fpr95(run, data, sample, model_dir):
    shutil.copytree(sample / "sun", data / "_unknown")
    _, out, _ = run("evaluate", data)
    found = {row[0]: row[-1] for row in cells(out)}
    assert found["of the unknown"].endswith(", 24 pictures in _unknown")
    assert {"of the known", "AUROC", "FPR95"} <= set(found)


def test_coverage_prints_what_the_candidates_hold(run, data, model_dir):
    _, out, _ = run("evaluate", data, "--coverage", "0.8")
    found = {row[0] for row in cells(out)}
    assert {"truth among them", "on average", "none", "several"} <= found
    assert "Candidates, to hold the truth for 80.0 %:" in out.decode()


@pytest.mark.parametrize("output", [[], ["--json"]])
def test_accuracy_below_the_asserted_one_is_exit_code_1_with_the_figure(run, data, model_dir, output):
    (data / "fish").rename(data / "house")
    code, out, err = run("evaluate", data, "--assert-accuracy", "0.9", *output)
    assert code == 1
    assert re.search(r"^Error: accuracy [\d.]+ % is below the 90 % asked\.$", err, re.MULTILINE)
    assert b"ccuracy" in out


def test_accuracy_asserted_and_reached_is_exit_code_0(run, data, model_dir):
    accuracy = json.loads(run("evaluate", data, "--json")[1])["accuracy"]
    assert run("evaluate", data, "--assert-accuracy", accuracy)[0] == 0


def test_assertion_weighs_more_than_bad_files(run, data, model_dir):
    (data / "fish" / "words.jpg").write_text("words")
    assert run("evaluate", data)[0] == 3
    (data / "fish").rename(data / "house")
    code, _, err = run("evaluate", data, "--assert-accuracy", "0.9")
    assert code == 1
    assert "1 file(s) skipped." in err


@pytest.mark.parametrize(
    ("accuracy", "asked", "words"),
    [
        (0.875, 0.9, "accuracy 87.5 % is below the 90 % asked."),
        (0.89996, 0.9, "accuracy 89.996 % is below the 90 % asked."),
    ],
)
def test_shortfall_has_as_many_digits_as_it_takes(accuracy, asked, words):
    assert str(_shortfall(accuracy, asked)) == words
