import json
from hashlib import sha256

import numpy as np
import pytest

from retrain import learning_curve as module
from retrain.head import make_folds, normalize, search_C
from retrain.learning_curve import learning_curve

C = 3.0


def drawn(counts, seed=0, kinds=12, size=64):
    """Normalized embeddings of classes of several kinds each, their labels, and a hash each."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    kind = random.integers(kinds, size=len(labels))
    centres = random.normal(size=(len(counts), kinds, size))
    embeddings = centres[labels, kind] + random.normal(scale=0.5, size=(len(labels), size))
    hashes = [sha256(b"%d" % row).digest() for row in range(len(labels))]
    return normalize([embeddings.astype(np.float32)]), labels, hashes


def curve_of(counts, seed=0, **options):
    embeddings, labels, hashes = drawn(counts, seed)
    return learning_curve(embeddings, labels, make_folds(labels, hashes), len(counts), C, **options)


def test_class_that_lacks_pictures_is_named():
    found = [curve_of((160, 160, 40), seed)["helps_most"] for seed in range(5)]
    assert sum([entry["class"] for entry in named] == [2] for named in found) >= 4


def test_no_class_is_named_where_none_lacks_more():
    assert not any(curve_of((160, 160, 160), seed)["helps_most"] for seed in range(5))


def test_chance_alone_names_a_class_in_few_runs():
    random, members, folds = np.random.default_rng(0), np.repeat(np.arange(5), 60), np.tile(np.arange(5), 60)

    def doubts():
        gained = random.choice([-1, 0, 1], p=[0.03, 0.87, 0.1], size=len(members))
        return [5 * module._doubt(gained, members == label, folds) for label in range(5)]

    assert np.mean([min(doubts()) < module.DOUBT for _ in range(500)]) < module.DOUBT


def test_gains_that_go_with_the_draw_of_a_fold_are_doubted():
    members, folds = np.repeat([True, False], 100), np.tile(np.arange(5), 40)
    steady = np.where(members & (np.arange(200) % 4 == 0), 1, 0)
    of_one_fold = np.where(members & (folds == 0), 1, 0)
    assert steady.sum() > of_one_fold.sum()
    assert module._doubt(steady, members, folds) < 0.001 < 0.05 < module._doubt(of_one_fold, members, folds)


def test_accuracy_grows_with_the_pictures():
    points = curve_of((100, 100, 100))["points"]
    assert [point["images"] for point in points] == pytest.approx([30, 60, 120, 240], abs=3)
    assert points[0]["accuracy"] < points[1]["accuracy"] < points[2]["accuracy"] < points[3]["accuracy"]
    assert all(low < point["accuracy"] < high for point in points for low, high in [point["interval"]])


def test_known_predictions_are_not_made_anew(monkeypatch):
    embeddings, labels, hashes = drawn((80, 80, 1))  # the last is in no fold, and in no second quarter
    search = search_C(embeddings, labels, hashes, 3)
    arguments = embeddings, labels, make_folds(labels, hashes), 3, search.C
    fits = []

    def counted(*arguments, real=module.fit_path, **options):
        fits.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(module, "fit_path", counted)
    anew = learning_curve(*arguments)
    assert len(fits) == 5 * 4
    fits.clear()
    known = learning_curve(*arguments, logits=search.logits)
    assert len(fits) == 5 * 3
    right = np.mean(search.logits.argmax(axis=1) == labels[search.rows])
    assert known["points"][-1]["accuracy"] == pytest.approx(right)
    assert known["points"][:-1] == anew["points"][:-1]


def test_copies_of_a_picture_are_not_judged_by_a_head_that_learned_one():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 60)
    noise = normalize([random.normal(size=(60, 64)).astype(np.float32)])  # nothing to be learned but the pictures
    embeddings, groups = np.repeat(noise, 2, axis=0), [b"%d" % (row // 2) for row in range(120)]

    def accuracy(folds):
        return learning_curve(embeddings, labels, folds, 2, C)["points"][-1]["accuracy"]

    assert accuracy(make_folds(labels, groups)) < 0.7
    assert accuracy(np.arange(120) % 2) > 0.95  # torn apart


def test_many_pictures_are_sampled_with_every_class_in_every_fold(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 100)
    found = curve_of((400, 400, 6))
    assert found["points"][-1]["images"] <= 100
    assert all(gain is not None for gain in found["gains"])


def test_work_beyond_seconds_judges_fewer_folds(monkeypatch):
    monkeypatch.setattr(module, "MOST_WORK", 2.5 * 300 * 64 * 3)
    judged = []
    monkeypatch.setattr(module, "_describe", lambda _, correct, *__: judged.append(correct.shape[1]))
    curve_of((100, 100, 100))
    assert judged == [120]  # two folds of five


@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1)])
def test_no_curve_where_nothing_can_be_judged(counts):
    assert curve_of(counts) is None


def test_no_curve_where_a_sample_would_hold_too_few_of_each_class(monkeypatch):
    monkeypatch.setattr(module, "MOST_WORK", 5 * 64 * 3)
    assert curve_of((50, 50, 50)) is None


@pytest.mark.parametrize("counts", [(2, 2), (3, 1), (5, 40), (2, 1, 2)])
def test_few_pictures_give_a_curve_for_json(counts):
    found = json.loads(json.dumps(curve_of(counts)))
    assert [gain is None for gain in found["gains"]] == [count < 2 for count in counts]
    assert found["helps_most"] == []
