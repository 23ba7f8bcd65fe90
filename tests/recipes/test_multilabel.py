import csv
import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled import LABELS, draw_labelled, write_labels
from sklearn.metrics import average_precision_score

from retrain import (
    Classifier,
    EvaluateOptions,
    OddOptions,
    TrainOptions,
    clean,
    evaluate,
    explain_pictures,
    export_dataset,
    find_odd_one_out,
    sort_dir,
    train,
)
from retrain.errors import RetrainError
from retrain.model import load_model
from retrain.options import DatasetOptions, ExplainOptions, SortOptions, TrustOptions

PLAIN = TrainOptions(report=False)


@pytest.fixture
def model_dir(trained_on_labels, tmp_path):
    """A model folder of the test's own, at the default place."""
    shutil.copytree(trained_on_labels[0], tmp_path / "tf_files")
    return tmp_path / "tf_files" / "model"


@pytest.fixture
def few(tmp_path):
    """Thirty pictures with a labels.csv, to be changed at will."""
    draw_labelled(tmp_path / "few", 30, seed=5)
    return tmp_path / "few"


@pytest.fixture
def truth(labelled):
    """{picture of test/: its labels}."""
    with open(labelled / "test" / "labels.csv", encoding="utf-8", newline="") as file:
        return {labelled / "test" / row["path"]: set(row["labels"].split(";")) - {""} for row in csv.DictReader(file)}


def test_training_recognises_labels_csv_and_measures_each_label(trained_on_labels):
    _, result = trained_on_labels
    assert (result["multi_label"], result["classes"], result["accuracy_from"]) == (True, LABELS, "test")
    assert (result["images"], result["test_images"]) == (300, 60)
    assert result["labels_per_image"] == 1
    low, high = result["mean_average_precision_interval"]
    assert 0.7 < low < result["mean_average_precision"] < high <= 1
    for scores in result["per_class"].values():
        assert 0 < scores["threshold"] < 1
        assert 0.7 < scores["average_precision"] <= 1
        assert {"precision", "recall", "f1", "average_precision_interval"} <= set(scores)
    assert sum(scores["support"] for scores in result["per_class"].values()) == result["judged_images"] == 300
    json.dumps(result)


def test_model_keeps_the_thresholds_that_were_told(trained_on_labels):
    folder, result = trained_on_labels
    model = load_model(folder / "model")
    told = [result["per_class"][name]["threshold"] for name in model.classes]
    assert model.head.thresholds.tolist() == told
    assert len(set(told)) == 3
    assert model.info["head"]["kind"] == "one-vs-rest logistic regression"


def test_guess_tells_every_label_at_its_threshold_best_first(trained_on_labels, labelled):
    model = load_model(trained_on_labels[0] / "model")
    thresholds = dict(zip(model.classes, model.head.thresholds.tolist(), strict=True))
    guesses = list(Classifier(model).guess([labelled / "test"]))[:-1]  # the last file is labels.csv
    for guess in guesses:
        assert guess.labels == [name for name, score in guess.scores.items() if score >= thresholds[name]]
        assert list(guess.scores.values()) == sorted(guess.scores.values(), reverse=True)
        assert guess.unknown is (guess.labels == [])
        assert guess.label == (guess.labels or list(guess.scores))[0]
        assert guess.confidence == guess.scores[guess.label]
    assert {len(guess.labels) for guess in guesses} >= {0, 1, 2}


def test_two_things_on_one_picture_both_get_a_high_score(trained_on_labels, truth):
    guesses = Classifier.load(trained_on_labels[0] / "model").guess_files(truth)
    lower = [
        min(guess.scores[name] for name in own)
        for guess, own in zip(guesses, truth.values(), strict=True)
        if len(own) == 2
    ]
    assert len(lower) == 20
    assert np.median(lower) > 0.5


def test_scores_need_not_add_up_to_one(trained_on_labels, truth):
    sums = [sum(g.scores.values()) for g in Classifier.load(trained_on_labels[0] / "model").guess_files(truth)]
    assert min(sums) < 0.5
    assert max(sums) > 1.5


def test_threshold_raises_those_of_the_labels(trained_on_labels, truth):
    folder = trained_on_labels[0] / "model"
    loose, strict = (
        list(Classifier.load(folder, TrustOptions(threshold)).guess_files(truth)) for threshold in (0, 0.9)
    )
    assert [guess.labels for guess in strict] == [
        [name for name in guess.labels if guess.scores[name] >= 0.9] for guess in loose
    ]
    assert sum(guess.unknown for guess in strict) > sum(guess.unknown for guess in loose)


@pytest.mark.parametrize("trust", [TrustOptions(coverage=0.9), TrustOptions(reject_rate=0.1)])
def test_promises_about_one_label_are_refused(trained_on_labels, trust):
    with pytest.raises(RetrainError, match="several labels") as caught:
        Classifier.load(trained_on_labels[0] / "model", trust)
    assert "--threshold" in caught.value.hint


def test_evaluation_scores_what_training_kept_back_alike(trained_on_labels, labelled, model_dir):
    result = evaluate(labelled)
    assert (result["multi_label"], result["test_images"], result["learned"]) == (True, 60, 0)
    for key in ("mean_average_precision", "macro_f1", "accuracy", "ece"):
        assert result[key] == trained_on_labels[1][key]


def test_evaluation_is_scikit_learns(truth, labelled, model_dir):
    result = evaluate(labelled / "test")
    scores = [[guess.scores[name] for name in LABELS] for guess in Classifier.load().guess_files(truth)]
    expected = average_precision_score(
        [[name in own for name in LABELS] for own in truth.values()], scores, average=None
    )
    found = [result["per_class"][name]["average_precision"] for name in LABELS]
    assert found == pytest.approx(expected.tolist(), abs=0.01)


def test_evaluation_tells_from_which_threshold_it_counted(labelled, model_dir):
    scores = evaluate(labelled, EvaluateOptions(threshold=0.8))["per_class"]
    assert [row["threshold"] for row in scores.values()] == pytest.approx([0.8] * 3)


def test_evaluation_on_class_folders_takes_each_picture_for_one(sample, model_dir):
    for name in ("boat", "tree"):
        assert name not in load_model(model_dir).classes
    result = evaluate(sample)
    assert result["test_images"] == 3 * 24
    assert {row["support"] for row in result["per_class"].values()} == {24}


def test_evaluation_on_class_folders_joins_the_labels_of_one_picture(sample, model_dir, tmp_path):
    for name, other in [("fish", "sun"), ("sun", "fish")]:
        shutil.copytree(sample / name, tmp_path / "data" / name)
        shutil.copy(sample / other / f"{other}-000.jpg", tmp_path / "data" / name)
    result = evaluate(tmp_path / "data")
    assert result["test_images"] == 48
    assert [result["per_class"][name]["support"] for name in ("fish", "sun")] == [25, 25]


def test_evaluation_warns_of_learned_pictures_and_foreign_labels(few, model_dir, labelled, caplog):
    shutil.copy(labelled / "train" / "001.jpg", few)
    with open(few / "labels.csv", "a", encoding="utf-8") as file:
        file.write("001.jpg,unicorn;sun\n")
    assert evaluate(few)["learned"] == 1
    assert "the model does not know unicorn: left out." in caplog.text
    assert "were learned by this model" in caplog.text


def test_pictures_of_something_else_are_counted_where_they_get_no_label(few, sample, model_dir):
    shutil.copytree(sample / "boat", few / "_unknown")
    unknown = [guess.unknown for guess in Classifier.load().guess([few / "_unknown"])]
    assert evaluate(few)["unknown"]["rejected"] == pytest.approx(np.mean(unknown))
    assert train(few, PLAIN)["unknown"]["images"] == len(unknown) == 24


def test_evaluation_without_a_label_of_the_model_is_an_error_with_a_hint(few, model_dir):
    write_labels(few, [("000.jpg", "unicorn"), ("001.jpg", "dragon")])
    with pytest.raises(RetrainError, match="no pictures of the model's labels") as caught:
        evaluate(few)
    assert "fish, house, sun" in caught.value.hint


def test_bad_rows_are_skipped_rows_of_the_result(few):
    with open(few / "labels.csv", "a", encoding="utf-8") as file:
        file.write("gone.jpg,sun\n../../x.jpg,sun\nbroken.jpg,sun\n")
    (few / "broken.jpg").write_bytes(b"no picture")
    for result in (train(few, PLAIN), evaluate(few)):
        assert [(Path(row["path"]).name, row["reason"].partition(" (")[0]) for row in result["skipped"]] == [
            ("gone.jpg", "bad row of labels.csv: no such file, line 32"),
            ("x.jpg", "bad row of labels.csv: a path out of the folder, line 33"),
            ("broken.jpg", "not_an_image"),
        ]


@pytest.mark.parametrize("linked", [shutil.copy, os.link, os.symlink])
def test_class_folders_that_share_pictures_make_the_same_model_as_labels_csv(few, tmp_path, linked):
    with open(few / "labels.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for label in filter(None, row["labels"].split(";")):
                (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
                linked(few / row["path"], tmp_path / "set" / label / row["path"])
            if not row["labels"]:
                (few / row["path"]).unlink()
    first = train(few, replace(PLAIN, model_dir=tmp_path / "a" / "model"))
    second = train(tmp_path / "set", replace(PLAIN, model_dir=tmp_path / "b" / "model", multi_label=True))
    assert first["images"] == second["images"] == 20
    assert (tmp_path / "a/model/head.npz").read_bytes() == (tmp_path / "b/model/head.npz").read_bytes()


def test_class_folders_without_multi_label_are_of_one_label_a_picture(sample):
    assert load_model(train(sample, PLAIN)["model_dir"]).head.thresholds is None


def test_names_and_order_of_rows_leave_the_model_alone(few, tmp_path):
    before = Path(train(few, PLAIN)["model_dir"], "head.npz").read_bytes()
    with open(few / "labels.csv", encoding="utf-8", newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    for path, _ in rows:
        (few / path).rename(few / f"x{path}")
    write_labels(few, [(f"x{path}", labels) for path, labels in reversed(rows)])
    assert Path(train(few, PLAIN)["model_dir"], "head.npz").read_bytes() == before


@pytest.mark.parametrize(
    "option",
    [{"split": "legacy"}, {"balance": "cut"}, {"max_per_class": 5}, {"fine_tune": True}],
    ids=lambda option: next(iter(option)),
)
def test_options_for_one_label_are_refused(few, option):
    with pytest.raises(RetrainError, match="for pictures of one label") as caught:
        train(few, TrainOptions(**option))
    assert caught.value.hint


def test_one_label_is_told_from_pictures_without_it(few, caplog):
    with open(few / "labels.csv", encoding="utf-8", newline="") as file:
        rows = [(row["path"], "sun" if "sun" in row["labels"] else "") for row in csv.DictReader(file)]
    write_labels(few, rows)
    result = train(few, TrainOptions())
    assert result["classes"] == ["sun"]
    assert result["per_class"]["sun"]["average_precision"] > 0.6
    write_labels(few, [(path, "sun") for path, _ in rows])
    with pytest.raises(RetrainError, match="only one class, sun"):
        train(few, PLAIN)


def test_few_pictures_train_without_a_measure(tmp_path):
    draw_labelled(tmp_path / "data", 2)
    write_labels(tmp_path / "data", [("000.jpg", "fish"), ("001.jpg", "sun")])
    result = train(tmp_path / "data", TrainOptions())
    assert result["mean_average_precision"] is None
    assert load_model(result["model_dir"]).head.thresholds.tolist() == [0.5, 0.5]
    assert Path(result["model_dir"], "report.html").read_text("utf-8").count("not measured") == 1


def test_advice_asks_for_pictures_with_several_labels(tmp_path, trained_on_labels):
    draw_labelled(tmp_path / "data", 30)
    with open(tmp_path / "data" / "labels.csv", encoding="utf-8", newline="") as file:
        rows = [(row["path"], row["labels"]) for row in csv.DictReader(file) if ";" not in row["labels"]]
    write_labels(tmp_path / "data", rows)
    assert "0.0 % of the pictures have several labels" in train(tmp_path / "data", PLAIN)["advice"][0]
    assert trained_on_labels[1]["advice"] == []


def test_sorting_files_each_picture_under_its_best_label(truth, labelled, model_dir, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "in").mkdir()
    for path in truth:
        shutil.copy(path, tmp_path / "in")
    sort_dir(tmp_path / "in", tmp_path / "out", SortOptions())
    for guess in Classifier.load().guess_files(truth):
        folder = "_unknown" if guess.unknown else guess.labels[0]
        assert (tmp_path / "out" / folder / Path(guess.path).name).exists()
    assert "each is filed under its best one" in caplog.text


def test_explaining_shows_the_best_label_or_the_one_asked_for(truth, model_dir, tmp_path):
    (guess,) = Classifier.load().guess_files([next(path for path, own in truth.items() if len(own) == 2)])
    (row,) = explain_pictures([guess.path], tmp_path / "out")
    assert (row["label"], row["confidence"]) == (guess.label, pytest.approx(guess.confidence))
    for label in LABELS:
        (row,) = explain_pictures([guess.path], tmp_path / label, ExplainOptions(label=label))
        assert row["confidence"] == pytest.approx(guess.scores[label])


def test_odd_are_those_below_the_threshold_of_the_label(truth, model_dir):
    result = find_odd_one_out(list(truth), OddOptions(label="sun"))
    told = {guess.path for guess in Classifier.load().guess_files(truth) if "sun" in guess.labels}
    assert set(result["odd"]) == set(map(str, truth)) - told


def test_new_label_is_not_crawled_for_a_model_of_several(truth, model_dir, tmp_path):
    with pytest.raises(RetrainError, match="several labels") as caught:
        find_odd_one_out(list(truth), OddOptions(label="boat", data=tmp_path / "data"))
    assert caught.value.hint
    assert not (tmp_path / "data").exists()


def test_export_clean_and_models_of_one_label_refuse_the_set(few, trained, tmp_path):
    refused = [
        lambda: export_dataset(few, tmp_path / "out"),
        lambda: export_dataset(tmp_path, tmp_path / "out", DatasetOptions(multi_label=True)),
        lambda: clean(few),
        lambda: evaluate(few, EvaluateOptions(model_dir=trained / "model")),
    ]
    for refuse in refused:
        with pytest.raises(RetrainError, match="several labels") as caught:
            refuse()
        assert caught.value.hint
    assert not (tmp_path / "out").exists()
