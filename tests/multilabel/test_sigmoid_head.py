from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from retrain.head import C_GRID, DEFAULT_C, SEARCH_ROWS, normalize
from retrain.metrics import sigmoid
from retrain.multilabel import head as sigmoid_head
from retrain.multilabel.head import (
    MIXED,
    calibrate,
    choose_thresholds,
    cross_calibrate,
    finish,
    fit_heads,
    mix,
    search_C,
)

LABELS = 4


def drawn(rows, seed=0, size=24, spread=1.5, shares=(0.5, 0.3, 0.2, 0.1)):
    """Normalized embeddings, the sum of a direction for each label and noise, their targets, and a hash each."""
    directions, random = np.random.default_rng(99).normal(size=(LABELS, size)), np.random.default_rng(seed)
    targets = random.random((rows, LABELS)) < shares
    embeddings = normalize([(targets @ directions + random.normal(scale=spread, size=(rows, size))).astype(np.float32)])
    return embeddings, targets, [sha256(bytes([seed]) + row.to_bytes(4)).digest() for row in range(rows)]


@pytest.mark.parametrize("weighted", [True, False])
def test_each_label_is_scikit_learns_regression_against_all_that_lack_it(weighted):
    embeddings, targets, _ = drawn(400)
    centred = embeddings - embeddings.mean(axis=0)
    centred /= np.sqrt((centred**2).sum(axis=1).mean())
    head = next(fit_heads(embeddings, targets, [30.0], weighted))
    for label in range(LABELS):
        weight = "balanced" if weighted else None
        oracle = LogisticRegression(C=30.0, class_weight=weight, tol=1e-6, max_iter=10_000)
        expected = oracle.fit(centred, targets[:, label]).decision_function(centred)
        assert sigmoid(head.logits(embeddings)[:, label]) == pytest.approx(sigmoid(expected), abs=0.01)


def test_label_of_all_or_none_has_its_odds_and_no_direction():
    embeddings, targets, _ = drawn(40)
    targets[:, 0], targets[:, 1] = True, False
    head = next(fit_heads(embeddings, targets, [30.0]))
    assert not head.weights[:2].any()
    assert sigmoid(head.intercept[:2]) == pytest.approx([40.5 / 41, 0.5 / 41])


def test_both_labels_of_a_picture_get_high_scores():
    embeddings, targets, _ = drawn(600)
    head = next(fit_heads(embeddings, targets, [30.0]))
    unseen, truth, _ = drawn(600, seed=1)
    both = truth.sum(axis=1) == 2
    scores = sigmoid(head.logits(unseen[both]))
    lower = np.where(truth[both], scores, 1).min(axis=1)
    assert both.sum() > 100
    assert np.median(lower) > 0.5
    assert np.median(np.where(truth[both], 0, scores).max(axis=1)) < np.median(lower)


def test_search_scores_every_row_by_a_head_that_has_not_learned_it():
    embeddings, targets, groups = drawn(200)
    search = search_C(embeddings, targets, groups)
    assert (search.targets == targets).all()
    assert search.C in C_GRID
    assert np.array_equal(search.rows, np.arange(200))
    held_out = search.folds == 0
    head = next(fit_heads(embeddings[~held_out], targets[~held_out], [search.C]))
    assert search.logits[held_out] == pytest.approx(head.logits(embeddings[held_out]), abs=0.05)


def test_search_of_too_few_groups_has_no_rows():
    embeddings, targets, groups = drawn(6)
    search = search_C(embeddings, targets, [groups[0]] * 6)
    assert (search.C, len(search.rows), search.logits.shape) == (DEFAULT_C, 0, (0, LABELS))


def test_search_of_many_rows_is_on_a_sample_with_every_label(monkeypatch):
    monkeypatch.setattr("retrain.head.SAMPLE_ROWS", 100)
    monkeypatch.setattr(sigmoid_head, "SEARCH_ROWS", 300)
    embeddings, targets, groups = drawn(400, shares=(0.5, 0.3, 0.2, 0.02))
    search = search_C(embeddings, targets, groups)
    assert len(search.rows) < 150 < SEARCH_ROWS
    assert targets[search.rows].any(axis=0).all()
    assert np.array_equal(search.targets[: len(search.rows)], targets[search.rows])


def test_pictures_are_mixed_until_enough_have_several_labels():
    embeddings, targets, _ = drawn(400)
    targets[targets.sum(axis=1) > 1] = False
    folds = np.arange(400) % 5 - 1
    mixed, wanted, of_fold = mix(embeddings, targets, folds)
    assert np.mean(wanted.sum(axis=1) > 1) == pytest.approx(MIXED, abs=0.01)
    assert np.array_equal(mixed[:400], embeddings)
    assert np.array_equal(wanted[:400], targets)
    assert (wanted[400:].sum(axis=1) == 2).all()
    assert np.linalg.norm(mixed, axis=1) == pytest.approx(np.ones(len(mixed)), abs=1e-5)
    assert len(mixed) == len(of_fold)
    for fold in range(-1, 4):  # both are of the fold, so that no other head has seen them
        own = embeddings[(folds == fold) & targets.any(axis=1)]
        sums = {tuple(row) for row in np.round(normalize([(own[:, None] + own).reshape(-1, own.shape[1])]), 4)}
        assert {tuple(row) for row in np.round(mixed[400:][of_fold[400:] == fold], 4)} <= sums


@pytest.mark.parametrize("targets", [np.ones((20, 2), bool), np.zeros((20, 2), bool), np.eye(2, dtype=bool)[[0] * 20]])
def test_nothing_is_mixed_where_enough_or_nothing_stands_apart(targets):
    embeddings, folds = np.ones((20, 8), np.float32), np.zeros(20, int)
    assert [len(array) for array in mix(embeddings, targets, folds)] == [20, 20, 20]


def test_head_that_never_saw_two_labels_together_tells_both_by_what_was_mixed():
    embeddings, targets, _ = drawn(1_000, spread=1.0)
    single = targets.sum(axis=1) == 1
    alone = embeddings[single], targets[single]
    unseen, truth, _ = drawn(1_000, seed=1, spread=1.0)
    unseen, truth = unseen[truth.sum(axis=1) == 2], truth[truth.sum(axis=1) == 2]
    plain, mixed = (
        next(fit_heads(*learned, [30.0])) for learned in (alone, mix(*alone, np.zeros(single.sum(), int))[:2])
    )
    lower = [np.median(np.where(truth, sigmoid(head.logits(unseen)), 1).min(axis=1)) for head in (plain, mixed)]
    assert lower[0] < 0.5 < lower[1]


def test_calibration_finds_the_slope_and_shifts_that_were_taken_away():
    random = np.random.default_rng(0)
    right = random.normal(scale=2, size=(20_000, 3)).astype(np.float32)
    targets = random.random(right.shape) < sigmoid(right)
    shifts = np.array([-1.0, 0.0, 2.0], np.float32)
    slope, shift = calibrate((right - shifts) / 3, targets)
    assert slope == pytest.approx(3, rel=0.05)
    assert shift == pytest.approx(shifts, abs=0.1)


def test_label_that_no_picture_has_becomes_unlikely_only_where_the_fit_was_weighted():
    logits, targets = np.zeros((50, 2), np.float32), np.zeros((50, 2), bool)
    targets[::2, 0] = True
    assert sigmoid(calibrate(logits, targets)[1][1]) == pytest.approx(0.5 / 51, rel=0.01)
    assert calibrate(logits, targets, weighted=False)[1][1] == 0


def expected_f1(probabilities, threshold):
    told = probabilities >= threshold
    return 2 * probabilities[told].sum() / (told.sum() + probabilities.sum())


def test_threshold_is_the_one_of_largest_expected_f1():
    probabilities = np.random.default_rng(0).beta(0.4, 1.5, size=(300, 3)).astype(np.float32)
    thresholds = choose_thresholds(probabilities, np.ones((300, 3), bool))
    for label, threshold in enumerate(thresholds):
        column = probabilities[:, label]
        best = max(expected_f1(column, candidate) for candidate in column)
        assert expected_f1(column, threshold) == pytest.approx(best, rel=1e-4)
        assert threshold == pytest.approx(best / 2, rel=1e-4)


def test_label_that_no_picture_has_is_told_from_one_half_on():
    targets = np.array([[True, False], [False, False]])
    assert choose_thresholds(np.array([[0.9, 0.2], [0.1, 0.1]]), targets)[1] == 0.5
    assert choose_thresholds(np.empty((0, 2)), np.empty((0, 2), bool)).tolist() == [0.5, 0.5]


def test_finished_head_gives_the_calibrated_probabilities():
    embeddings, targets, groups = drawn(200)
    search = search_C(embeddings, targets, groups)
    slope, shift = calibrate(search.logits, search.targets)
    head = next(fit_heads(embeddings, targets, [search.C]))
    finished = finish(head, slope, shift, np.full(LABELS, 0.4, np.float32))
    assert finished.logits(embeddings) == pytest.approx(slope * head.logits(embeddings) + shift, abs=1e-3)
    assert (head.kind, finished.kind) == ("softmax", "sigmoid")


def test_what_is_told_of_a_picture_was_not_chosen_by_it():
    embeddings, targets, groups = drawn(200)
    search = search_C(embeddings, targets, groups)
    probabilities, told = cross_calibrate(search)
    own = search.folds == 0
    others, told_of_others = cross_calibrate(replace(search, targets=search.targets ^ own[:, None]))
    assert np.array_equal(others[own], probabilities[own])
    assert np.array_equal(told_of_others[own], told[own])
    assert not np.array_equal(others[~own], probabilities[~own])


def test_probabilities_are_as_often_right_as_they_say():
    embeddings, targets, groups = drawn(2_000)
    search = search_C(embeddings, targets, groups)
    probabilities, _ = cross_calibrate(search)
    order = np.argsort(probabilities.ravel())
    for rows in np.array_split(order, 8):
        assert probabilities.ravel()[rows].mean() == pytest.approx(targets.ravel()[rows].mean(), abs=0.05)
