import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from retrain.multilabel.metrics import average_precision, design_effect, summarize

CLASSES = ["anna", "ben", "carl"]


def drawn(rows, seed=0, together=0.0, rounding=3):
    """Probabilities, what is told from 0.5 on, and the truth.

    together: how much the mistakes on a picture have in common.
    """
    random = np.random.default_rng(seed)
    truth = random.random((rows, len(CLASSES))) < [0.5, 0.3, 0.1]
    noise = (1 - together) ** 0.5 * random.normal(size=truth.shape) + together**0.5 * random.normal(size=(rows, 1))
    probabilities = 1 / (1 + np.exp(1.2 - 2.4 * truth - noise))
    probabilities = np.round(probabilities, rounding).astype(np.float32)
    return probabilities, probabilities >= 0.5, truth


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=50))
def test_average_precision_is_scikit_learns(rows):
    scores, truth = np.array([score for score, _ in rows], float), np.array([own for _, own in rows])
    if truth.any():
        assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    else:
        assert average_precision(scores, truth) is None


def test_scores_are_scikit_learns():
    probabilities, told, truth = drawn(300)
    result = summarize(probabilities, told, truth, CLASSES)
    assert result["mean_average_precision"] == pytest.approx(average_precision_score(truth, probabilities))
    assert result["macro_f1"] == pytest.approx(f1_score(truth, told, average="macro"))
    assert result["accuracy"] == pytest.approx(np.mean((told == truth).all(axis=1)))
    for key, score in [("precision", precision_score), ("recall", recall_score), ("f1", f1_score)]:
        found = [result["per_class"][name][key] for name in CLASSES]
        assert found == pytest.approx(score(truth, told, average=None).tolist())
    assert [result["per_class"][name]["support"] for name in CLASSES] == truth.sum(axis=0).tolist()


def test_coverage_counts_pictures_with_a_label():
    probabilities, told, truth = drawn(300)
    result, covered = summarize(probabilities, told, truth, CLASSES), told.any(axis=1)
    assert result["coverage"] == pytest.approx(covered.mean())
    assert result["accuracy_on_covered"] == pytest.approx((told == truth)[covered].all(axis=1).mean())


def test_each_score_lies_in_its_interval():
    result = summarize(*drawn(40), CLASSES)
    for scores in [result, *result["per_class"].values()]:
        for key in [key for key in scores if f"{key}_interval" in scores]:
            low, high = scores[f"{key}_interval"]
            assert 0 <= low <= scores[key] <= high <= 1


def test_label_that_no_picture_has_leaves_the_mean_alone():
    probabilities, told, truth = drawn(100)
    truth[:, 2] = False
    result = summarize(probabilities, told, truth, CLASSES)
    assert result["per_class"]["carl"]["average_precision"] is None
    assert result["per_class"]["carl"]["average_precision_interval"] == [0.0, 1.0]
    assert result["mean_average_precision"] == pytest.approx(
        average_precision_score(truth[:, :2], probabilities[:, :2])
    )


@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_to_judge_is_none_and_still_json(rows):
    result = summarize(*(array[:rows] for array in drawn(1)), CLASSES)
    assert json.loads(json.dumps(result)) == result
    if not rows:
        assert {result[key] for key in ("mean_average_precision", "macro_f1", "accuracy", "ece")} == {None}


@pytest.mark.parametrize("together", [0.0, 0.6])
@pytest.mark.parametrize("key", ["mean_average_precision", "macro_f1"])
def test_interval_holds_the_true_mean_in_95_of_100_measurements(together, key):
    true = summarize(*drawn(100_000, 1, together, 9), CLASSES)[key]
    intervals = [summarize(*drawn(120, seed, together, 9), CLASSES)[f"{key}_interval"] for seed in range(2, 302)]
    held = np.mean([low <= true <= high for low, high in intervals])
    assert 0.92 <= held <= 1
    assert np.mean([high - low for low, high in intervals]) < 0.25


def test_mistakes_that_come_together_widen_the_interval_of_the_mean():
    wrong = np.zeros((100, 3), bool)
    wrong[:20] = True
    assert design_effect(wrong) == pytest.approx(3)
    assert design_effect(np.zeros((5, 3), bool)) == 1
    assert design_effect(np.random.default_rng(0).random((5_000, 3)) < 0.2) == pytest.approx(1, abs=0.1)
