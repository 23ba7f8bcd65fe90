import json
import logging
import shutil

import numpy as np
import pytest

from retrain import Classifier, EvaluateOptions, evaluate
from retrain.errors import RetrainError


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, "retrain")
    return caplog


def test_scores_are_those_of_the_guesses(data, model_dir):
    result = evaluate(data, EvaluateOptions(threshold=0.8))
    guesses = [(guess.path.split("/")[-2], guess) for guess in Classifier.load().guess([data])]
    correct = np.array([truth == guess.label for truth, guess in guesses])
    covered = np.array([guess.confidence >= 0.8 for _, guess in guesses])
    assert result["accuracy"] == correct.mean()
    assert result["coverage"] == covered.mean()
    assert result["accuracy_on_covered"] == correct[covered].mean()
    assert np.sum(result["confusion"]) == result["test_images"] == 12
    assert np.trace(result["confusion"]) == correct.sum()
    assert result["per_class"]["fish"]["support"] == 6
    json.dumps(result)


def test_same_scores_whatever_is_stored(data, model_dir):
    first, second = evaluate(data), evaluate(data)
    del first["seconds"], second["seconds"]
    assert first == second


def test_nothing_covered_has_no_accuracy_on_covered(data, model_dir):
    result = evaluate(data, EvaluateOptions(threshold=1.0))
    assert (result["coverage"], result["accuracy_on_covered"]) == (0, None)


def test_train_and_test_layout_is_measured_on_test_alone(data, model_dir):
    for part in ("train", "test"):
        shutil.copytree(data / "fish", data / part / "fish")
        shutil.copytree(data / "tree", data / part / "tree")
    shutil.rmtree(data / "test" / "tree")
    for path in sorted((data / "test" / "fish").iterdir())[2:]:
        path.unlink()
    assert evaluate(data)["test_images"] == 2


def test_unknown_class_is_left_out_and_named(data, model_dir, messages):
    shutil.copytree(data / "fish", data / "whale")
    assert evaluate(data)["test_images"] == 12
    assert "the model does not know whale" in messages.text


def test_only_measures_the_classes_named(data, model_dir):
    assert evaluate(data, EvaluateOptions(only=("fish",)))["test_images"] == 6


def test_bad_files_are_listed(data, model_dir):
    (data / "fish" / "a.jpg").touch()
    result = evaluate(data)
    assert [row["reason"].split()[0] for row in result["skipped"]] == ["empty"]
    assert result["test_images"] == 12


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def missing(folder):
    shutil.rmtree(folder)


def strangers(folder):
    for name in ("fish", "tree"):
        (folder / name).rename(folder / f"{name} of mars")


def no_pictures(folder):
    for path in folder.glob("*/*"):
        path.write_text("words")


@pytest.mark.parametrize("change", [empty, missing, strangers, no_pictures])
def test_nothing_to_measure_is_an_error_with_a_hint(data, model_dir, change):
    change(data)
    with pytest.raises(RetrainError, match=r"no pictures|no folder") as caught:
        evaluate(data)
    assert caught.value.hint


def test_no_model_is_an_error_and_leaves_nothing(data, tmp_path):
    with pytest.raises(RetrainError, match="no model"):
        evaluate(data)
    assert not (tmp_path / "tf_files").exists()
