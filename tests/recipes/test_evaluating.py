import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrain import Classifier, EvaluateOptions, evaluate
from retrain.bottlenecks import Store
from retrain.calibrate import Limits
from retrain.errors import RetrainError
from retrain.model import load_model, save_model
from retrain.options import TrainOptions, TrustOptions


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


def make_strangers(folder, count=5):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        noise = random.integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")


def test_unknown_pictures_are_told_as_guess_tells_them(data, model_dir):
    make_strangers(data / "_unknown")
    trust = TrustOptions(threshold=0.7, reject_rate=0.05)
    guesses = list(Classifier.load(trust=trust).guess([data]))
    strange = np.array([Path(guess.path).parent.name == "_unknown" for guess in guesses])
    unknown = np.array([guess.unknown for guess in guesses])
    result = evaluate(data, EvaluateOptions(**vars(trust)))
    assert result["test_images"] == np.sum(result["confusion"]) == 12
    assert result["known_rejected"] == unknown[~strange].mean()
    assert result["unknown"]["images"] == 5
    assert result["unknown"]["rejected"] == unknown[strange].mean() > 0
    assert result["unknown"]["auroc"] > 0.9
    assert result["unknown"]["fpr95"] < 0.5
    json.dumps(result, allow_nan=False)


def test_unknown_pictures_of_a_test_folder_are_told(data, model_dir):
    for part in ("train", "test"):
        shutil.copytree(data / "fish", data / part / "fish")
    make_strangers(data / "test" / "_unknown", 2)
    assert evaluate(data)["unknown"]["images"] == 2


def test_no_unknown_pictures_are_no_score(data, model_dir):
    assert evaluate(data)["unknown"] is None
    make_strangers(data / "_unknown", 0)
    assert evaluate(data)["unknown"] is None


def test_bad_file_among_the_unknown_is_listed(data, model_dir):
    make_strangers(data / "_unknown", 1)
    (data / "_unknown" / "words.jpg").write_text("words")
    result = evaluate(data)
    assert [row["path"] for row in result["skipped"]] == [str(data / "_unknown" / "words.jpg")]
    assert result["unknown"]["images"] == 1


def test_model_that_cannot_tell_the_unknown_has_no_auroc(data, model_dir):
    model = load_model(model_dir)
    model.detector, model.limits = None, Limits()
    save_model(model, model_dir)
    make_strangers(data / "_unknown")
    result = evaluate(data)
    assert (result["unknown"]["auroc"], result["unknown"]["fpr95"]) == (None, None)
    assert (result["unknown"]["rejected"], result["known_rejected"]) == (0, 0)


def test_candidates_are_those_of_guess(data, model_dir):
    trust = TrustOptions(coverage=0.8)
    guesses = list(Classifier.load(trust=trust).guess([data]))
    sizes = np.array([len(guess.candidates) for guess in guesses])
    result = evaluate(data, EvaluateOptions(coverage=0.8))["candidates"]
    assert result["asked"] == 0.8
    assert result["coverage"] == np.mean([guess.path.split("/")[-2] in guess.candidates for guess in guesses])
    assert result["mean_size"] == sizes.mean()
    assert (result["none"], result["several"]) == (np.mean(sizes == 0), np.mean(sizes > 1))
    assert evaluate(data)["candidates"] is None


def test_learned_pictures_are_counted_and_warned_of(sample, model_dir, messages):
    with Store(model_dir.parent / "bottlenecks.sqlite") as store:
        tested = store.tested(TrainOptions.test_share)
    learned = sum(not kept_back for kept_back in tested.values())
    assert evaluate(sample)["learned"] == learned < 120
    assert f"{learned} of 120 pictures were learned by this model: the accuracy is flattered." in messages.text


def test_new_pictures_are_not_learned(data, model_dir, messages):
    for path in data.glob("*/*"):
        path.write_bytes(path.read_bytes() + b"other bytes")
    assert evaluate(data)["learned"] == 0
    assert "flattered" not in messages.text


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
