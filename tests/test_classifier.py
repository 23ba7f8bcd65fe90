import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrain import Classifier, TrainOptions, train
from retrain.backbones import Backbone
from retrain.calibrate import Limits
from retrain.classifier import find_pictures
from retrain.errors import RetrainError
from retrain.images import decode
from retrain.options import TrustOptions


@pytest.fixture(scope="module")
def classifier(trained):
    return Classifier.load(trained / "model")


def test_scores_sum_to_one_best_first(classifier, sample):
    for guess in classifier.guess([sample / "fish"]):
        scores = list(guess.scores.values())
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert next(iter(guess.scores.items())) == (guess.label, guess.confidence)
        assert set(guess.scores) == set(classifier.labels)


def test_guesses_are_mostly_right(classifier, sample):
    guesses = [(path.parent.name, classifier.guess_file(path).label) for path in sample.glob("*/*.jpg")]
    assert np.mean([truth == label for truth, label in guesses]) > 0.8


def test_bytes_file_and_folder_give_the_same_guess(classifier, picture, tmp_path):
    shutil.copy(picture, tmp_path)
    guesses = [classifier.guess_bytes(picture.read_bytes()), classifier.guess_file(picture)]
    guesses += [*classifier.guess([picture]), *classifier.guess([tmp_path])]
    assert len({(guess.label, tuple(guess.scores.items())) for guess in guesses}) == 1
    assert [guess.path for guess in guesses] == ["-", str(picture), str(picture), str(tmp_path / picture.name)]


def test_probabilities_of_embeddings_are_those_of_the_picture(classifier, picture):
    scores = classifier.guess_file(picture).scores
    probabilities = classifier.probabilities_of(classifier.embed(decode(picture.read_bytes())))[0]
    assert [scores[label] for label in classifier.labels] == probabilities.tolist()


def test_training_and_guessing_see_the_same_pixels(sample, tmp_path, monkeypatch):
    seen = {}

    def spy(stage):
        def embed(backbone, images, real=Backbone.embed):
            seen.setdefault(stage, set()).update((backbone.spec.name, image.tobytes()) for image in images)
            return real(backbone, images)

        return embed

    for name in ("tree", "sun"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in sorted((sample / name).iterdir())[:3]:
            shutil.copy(path, tmp_path / "data" / name)
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "embed", spy("train"))
        train(tmp_path / "data", TrainOptions(quality="good", report=False))
    loaded = Classifier.load()
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "embed", spy("guess"))
        list(loaded.guess([tmp_path / "data"]))
    assert seen["train"] == seen["guess"]
    assert len(seen["guess"]) == 2 * 6


@pytest.mark.parametrize(("threshold", "unknown"), [(0.0, False), (1.0, True)])
def test_below_the_threshold_a_picture_is_unknown(trained, picture, threshold, unknown):
    guess = Classifier.load(trained / "model", TrustOptions(threshold)).guess_file(picture)
    assert guess.unknown is unknown
    assert guess.label  # the nearest class, even so


@pytest.fixture
def noise(tmp_path):
    """A picture of nothing that was ever learned."""
    path = tmp_path / "noise.png"
    Image.frombytes("RGB", (96, 96), np.random.default_rng(0).bytes(3 * 96 * 96)).save(path)
    return path


def test_picture_unlike_all_that_was_learned_is_unknown(trained, picture, noise):
    guesses = list(Classifier.load(trained / "model").guess([picture, noise]))
    assert [guess.unknown for guess in guesses] == [False, True]
    assert guesses[1].label


def test_reject_rate_of_0_rejects_nothing(trained, noise):
    assert not Classifier.load(trained / "model", TrustOptions(reject_rate=0)).guess_file(noise).unknown


def test_higher_reject_rate_rejects_more_known_pictures(trained, sample):
    classifiers = [Classifier.load(trained / "model", TrustOptions(reject_rate=rate)) for rate in (0.02, 0.3, 0.7)]
    shares = [np.mean([guess.unknown for guess in each.guess([sample])]) for each in classifiers]
    assert shares[0] < shares[1] < shares[2]


def test_promise_that_the_model_cannot_keep_is_refused(trained):
    for trust in (TrustOptions(coverage=0.999), TrustOptions(reject_rate=0.001)):
        with pytest.raises(RetrainError, match="999 are needed") as caught:
            Classifier.load(trained / "model", trust)
        assert "more pictures" in caught.value.hint


def test_model_of_few_pictures_calls_nothing_unknown(data, noise):
    train(data, TrainOptions(report=False))
    assert not Classifier.load().guess_file(noise).unknown


def test_candidates_hold_the_labels_above_the_limit_best_first(classifier, picture):
    limits = Limits(np.full(100, 1e-12, np.float32))
    wide = Classifier(replace(classifier.model, limits=limits), TrustOptions(coverage=0.9, reject_rate=0))
    guess = wide.guess_file(picture)
    assert guess.candidates == [label for label, score in guess.scores.items() if score >= 1e-12]
    assert guess.candidates[0] == guess.label
    assert not guess.unknown


def test_picture_without_candidates_is_unknown(classifier, picture):
    limits = Limits(np.full(100, 1.01, np.float32))
    strict = Classifier(replace(classifier.model, limits=limits), TrustOptions(coverage=0.9, reject_rate=0))
    guess = strict.guess_file(picture)
    assert (guess.candidates, guess.unknown) == ([], True)


def test_no_candidates_are_named_unasked(classifier, picture):
    assert classifier.guess_file(picture).candidates is None


def test_bad_file_is_a_guess_with_an_error(classifier, picture, tmp_path):
    (tmp_path / "a.jpg").write_text("words")
    shutil.copy(picture, tmp_path / "b.jpg")
    (tmp_path / "c.jpg").touch()
    os.mkfifo(tmp_path / "d.jpg")
    guesses = list(classifier.guess([tmp_path]))
    assert [Path(guess.path).name for guess in guesses] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    reasons = [guess.error and guess.error.split()[0] for guess in guesses]
    assert reasons == ["not_an_image", None, "empty", "unreadable"]
    assert [guess.label is None for guess in guesses] == [True, False, True, True]


def test_json_has_every_key_always(classifier, picture):
    keys = ["path", "label", "confidence", "scores", "unknown", "candidates", "labels", "error"]
    good, bad = classifier.guess_file(picture).as_dict(), classifier.guess_bytes(b"words").as_dict()
    assert list(good) == list(bad) == keys
    assert (bad["label"], bad["confidence"], bad["scores"], bad["unknown"]) == (None, None, {}, False)


def test_top_keeps_the_best(classifier, picture):
    guess = classifier.guess_file(picture)
    assert guess.as_dict(top=2)["scores"] == dict(list(guess.scores.items())[:2])


def test_temperature_changes_confidence_and_no_label(classifier, picture):
    hot = Classifier(replace(classifier.model, temperature=classifier.model.temperature * 10))
    guess, blurred = classifier.guess_file(picture), hot.guess_file(picture)
    assert blurred.confidence < guess.confidence
    assert list(blurred.scores) == list(guess.scores)


def test_default_model_is_where_train_writes(model_dir, picture):
    assert Classifier.load().guess_file(picture).label == Classifier.load(model_dir).guess_file(picture).label


def test_files_and_folders_are_found_in_order(tmp_path):
    for name in ("b/2", "b/1", "a", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    found = find_pictures([tmp_path / "c", tmp_path / "b", str(tmp_path / "a"), tmp_path / "dangling"])
    assert [path.name for path in found] == ["c", "1", "2", "a", "dangling"]


@pytest.mark.parametrize("name", ["gone", "x" * 300, "gone/deeper"])
def test_missing_path_is_an_error_with_a_hint(tmp_path, name):
    with pytest.raises(RetrainError, match="there is no file or folder") as caught:
        list(find_pictures([tmp_path / name]))
    assert caught.value.hint
