import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax as scipy_softmax
from scipy.stats import binomtest
from sklearn import metrics as oracle

from retrain.metrics import (
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    per_class_scores,
    softmax,
    wilson_interval,
)

RANDOM = np.random.default_rng(0)
LABELS, GUESSES = RANDOM.integers(0, 4, (2, 300))
LOGITS = RANDOM.normal(size=(300, 4)).astype(np.float32)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_interval_is_wilsons(counts):
    expected = binomtest(*counts).proportion_ci(method="wilson")
    assert wilson_interval(*counts) == pytest.approx((expected.low, expected.high), abs=1e-5)


def test_nothing_measured_leaves_everything_open():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_confusion_has_truth_in_rows():
    matrix = confusion_matrix(LABELS, GUESSES, 4)
    assert np.array_equal(matrix, oracle.confusion_matrix(LABELS, GUESSES, labels=range(4)))


def test_confusion_of_nothing_is_zero():
    assert not confusion_matrix(LABELS[:0], GUESSES[:0], 3).any()


def test_scores_a_class_are_scikit_learns():
    names = ["a", "b", "never guessed", "not there"]
    labels, guesses = np.array([0, 0, 1, 2, 1]), np.array([0, 1, 1, 0, 3])
    expected = oracle.precision_recall_fscore_support(labels, guesses, labels=range(4), zero_division=0)
    scores = per_class_scores(confusion_matrix(labels, guesses, 4), names)
    assert list(scores) == names
    assert [list(row.values()) for row in scores.values()] == pytest.approx(np.transpose(expected))


def test_log_loss_is_scikit_learns():
    expected = oracle.log_loss(LABELS, scipy_softmax(LOGITS.astype(float), axis=1))
    assert log_loss(LOGITS, LABELS) == pytest.approx(expected, rel=1e-6)


def test_softmax_is_scipys():
    assert softmax(LOGITS) == pytest.approx(scipy_softmax(LOGITS, axis=1), abs=1e-6)


@pytest.mark.parametrize(
    "function", [lambda logits: softmax(logits), lambda logits: log_loss(logits, np.array([0, 1]))]
)
def test_huge_logits_do_not_overflow(function):
    assert np.isfinite(function(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32))).all()


def drawn(confidences):
    """Probabilities of two classes, and labels that are as often right as these say."""
    correct = RANDOM.random(len(confidences)) < confidences
    return np.stack([confidences, 1 - confidences], axis=1), np.where(correct, 0, 1)


def test_calibrated_guesses_have_no_calibration_error():
    assert expected_calibration_error(*drawn(RANDOM.uniform(0.5, 1, 20_000))) < 0.02


def test_overconfident_guesses_have_their_gap_as_calibration_error():
    labels = (RANDOM.random(10_000) > 0.7).astype(int)
    probabilities = np.tile([0.95, 0.05], (10_000, 1))
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.95 - np.mean(labels == 0))


def test_calibration_error_of_one_guess_is_its_gap():
    assert expected_calibration_error(np.array([[0.8, 0.2]]), np.array([0])) == pytest.approx(0.2)
