import numpy as np
import pytest

from retrain.calibrate import TEMPERATURES, Limits, fit_temperature
from retrain.errors import RetrainError
from retrain.metrics import expected_calibration_error, softmax

RANDOM = np.random.default_rng(0)


def drawn(rows, classes=5):
    """Logits, and labels drawn from just the probabilities these state."""
    logits = RANDOM.normal(scale=3, size=(rows, classes)).astype(np.float32)
    labels = (logits + RANDOM.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 2.0, 8.0])
def test_known_temperature_is_found(temperature):
    logits, labels = drawn(20_000)
    assert fit_temperature(logits * np.float32(temperature), labels) == pytest.approx(temperature, rel=0.05)


def test_temperature_takes_calibration_error_away():
    logits, labels = drawn(20_000)
    overconfident = logits * 4
    temperature = fit_temperature(overconfident, labels)
    assert expected_calibration_error(softmax(overconfident), labels) > 0.1
    assert expected_calibration_error(softmax(overconfident / temperature), labels) < 0.02


@pytest.mark.parametrize("rows", [1, 10, 100])
def test_few_right_guesses_prove_no_certainty(rows):
    logits = np.tile(np.float32([5, 0, 0]), (rows, 1))
    temperature = fit_temperature(logits, np.zeros(rows, int))
    assert softmax(logits / temperature).max() < (rows + 1.5) / (rows + 2)


@pytest.mark.parametrize("right", [True, False])
def test_temperature_stays_within_bounds(right):
    logits = np.tile(np.float32([1000, 0]), (50, 1))
    assert TEMPERATURES[0] <= fit_temperature(logits, np.full(50, 0 if right else 1)) <= TEMPERATURES[1]


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        fit_temperature(np.empty((0, 3), np.float32), np.empty(0, int))


def sorted_values(count):
    return np.sort(np.random.default_rng(count).random(count)).astype(np.float32)


@pytest.mark.parametrize(("count", "coverage"), [(19, 0.95), (99, 0.99), (9, 0.9), (4, 0.8), (1, 0.5)])
def test_limit_is_given_from_just_so_many_pictures_on(count, coverage):
    assert Limits(sorted_values(count)).confidence(coverage) == sorted_values(count)[0]
    assert Limits(scores=sorted_values(count)).score(1 - coverage) == sorted_values(count)[0]
    with pytest.raises(RetrainError, match=f"on {count - 1} pictures, {count} are needed"):
        Limits(sorted_values(count - 1)).confidence(coverage)
    with pytest.raises(RetrainError, match="reject rate"):
        Limits(scores=sorted_values(count - 1)).score(1 - coverage)


@pytest.mark.parametrize("count", [20, 37, 100])
@pytest.mark.parametrize("coverage", [0.6, 0.8, 0.9])
def test_coverage_is_kept_in_the_mean(count, coverage):
    draws = np.random.default_rng(0).random((4_000, count + 1)).astype(np.float32)
    kept = [new >= Limits(np.sort(known)).confidence(coverage) for *known, new in draws]
    assert coverage - 0.02 < np.mean(kept) < coverage + 1 / (count + 1) + 0.02


@pytest.mark.parametrize("share", [0, 1, -1, 2, 1e-320, 1 - 1e-12])
def test_limit_of_an_impossible_share_is_refused(share):
    with pytest.raises(RetrainError, match="out of range"):
        Limits(scores=sorted_values(50)).score(share)
