import json
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax as scipy_softmax
from scipy.stats import binomtest
from sklearn import metrics as oracle

from retrain.metrics import (
    auroc,
    balanced_accuracy,
    confusion_matrix,
    expected_calibration_error,
    false_positive_rate_at,
    log_loss,
    most_confused,
    per_class_scores,
    reliability,
    risk_coverage,
    softmax,
    summarize,
    summarize_unknown,
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
    expected = oracle.precision_recall_fscore_support(LABELS, GUESSES, labels=range(4))
    scores = per_class_scores(confusion_matrix(LABELS, GUESSES, 4), "abcd")
    found = [[row[key] for key in ("precision", "recall", "f1", "support")] for row in scores.values()]
    assert "".join(scores) == "abcd"
    assert found == pytest.approx(np.transpose(expected))


def test_score_that_is_undefined_is_none_and_its_interval_open():
    labels, guesses = np.array([0, 0, 1, 2, 1]), np.array([0, 1, 1, 0, 3])
    names = ["a", "b", "never guessed", "not there", "neither"]
    scores = per_class_scores(confusion_matrix(labels, guesses, 5), names)
    assert {name: [key for key, value in row.items() if value is None] for name, row in scores.items()} == {
        "a": [], "b": [], "never guessed": ["precision"], "not there": ["recall"],
        "neither": ["precision", "recall", "f1"],
    }  # fmt: skip
    assert scores["never guessed"]["f1"] == scores["not there"]["f1"] == 0
    assert scores["never guessed"]["precision_interval"] == scores["neither"]["f1_interval"] == [0, 1]


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


def judged(size, classes=5, sharpness=2.0, temperature=1.0, seed=0):
    """Probabilities (size, classes), and labels drawn from them before these are sharpened: below 1 too sure."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(size, classes)) * sharpness
    truth = (random.random((size, 1)) > scipy_softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    return scipy_softmax(logits / temperature, axis=1), truth


def test_summary_is_scikit_learns():
    probabilities, truth = judged(400)
    guesses, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    summary = summarize(probabilities, truth, "abcde", threshold=0.6)
    assert summary["accuracy"] == oracle.accuracy_score(truth, guesses)
    assert summary["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, guesses))
    for k in (2, 3):
        expected = oracle.top_k_accuracy_score(truth, probabilities, k=k)
        assert summary["top_k"][str(k)]["accuracy"] == pytest.approx(expected)
    assert list(summary["top_k"]) == ["2", "3"]
    assert summary["ece"] == expected_calibration_error(probabilities, truth)
    assert summary["coverage"] == np.mean(confidences >= 0.6)
    on_covered = oracle.accuracy_score(truth[confidences >= 0.6], guesses[confidences >= 0.6])
    assert summary["accuracy_on_covered"] == on_covered
    json.dumps(summary, allow_nan=False)


def test_every_score_lies_in_its_interval():
    summary = summarize(*judged(60), "abcde", threshold=0.6)
    for scores in [summary, summary["at_threshold"], *summary["per_class"].values(), *summary["most_confused"]]:
        for name in [name.removesuffix("_interval") for name in scores if name.endswith("_interval")]:
            low, high = scores[f"{name}_interval"]
            assert 0 <= low <= scores[name] <= high <= 1, name


def test_summary_of_nothing_has_no_scores():
    summary = summarize(np.empty((0, 3), np.float32), np.empty(0, int), "abc")
    assert [summary[key] for key in ("accuracy", "balanced_accuracy", "ece", "coverage")] == [None] * 4
    assert summary["accuracy_interval"] == summary["balanced_accuracy_interval"] == summary["ece_interval"] == [0, 1]
    assert summary["reliability"] == summary["risk_coverage"] == summary["most_confused"] == []


def test_balanced_accuracy_leaves_out_a_class_without_pictures():
    scores = balanced_accuracy(np.array([[17, 3, 0], [0, 0, 0], [1, 0, 1]]))
    assert scores["balanced_accuracy"] == pytest.approx((0.85 + 0.5) / 2)


def test_balanced_accuracy_of_one_class_is_about_as_sure_as_its_recall():
    interval = balanced_accuracy(np.array([[170, 30], [0, 0]]))["balanced_accuracy_interval"]
    assert interval == pytest.approx(wilson_interval(170, 200), abs=0.002)


def test_all_right_of_few_is_no_certainty():
    scores = balanced_accuracy(np.diag([5] * 100))
    assert scores["balanced_accuracy"] == scores["balanced_accuracy_interval"][1] == 1
    assert 0.98 < scores["balanced_accuracy_interval"][0] < 0.995


def held(interval, truth):
    return interval[0] <= truth <= interval[1]


@pytest.mark.parametrize(
    ("recalls", "sizes"),
    [([0.6, 0.9, 0.97, 0.75], [12, 40, 200, 25]), ([0.9] * 100, [10] * 100), ([0.99] * 50, [40] * 50), ([0.8], [30])],
)
def test_interval_of_balanced_accuracy_holds_the_truth_19_times_in_20(recalls, sizes):
    hits = np.random.default_rng(0).binomial(sizes, recalls, (1000, len(sizes)))
    # What is wrong lies beside the diagonal, in one column more.
    matrices = [np.pad(np.diag(right), (0, 1)) + np.pad(np.diag(sizes - right), ((0, 1), (1, 0))) for right in hits]
    intervals = [balanced_accuracy(matrix)["balanced_accuracy_interval"] for matrix in matrices]
    assert 0.93 < np.mean([held(interval, np.mean(recalls)) for interval in intervals]) < 0.98


@pytest.mark.parametrize("size", [40, 400])
def test_intervals_of_a_class_hold_the_truth_19_times_in_20(size):
    joint = np.array([[0.25, 0.05, 0.02], [0.04, 0.30, 0.03], [0.01, 0.05, 0.25]])
    hit, truth, guessed = joint[0, 0], joint[0].sum(), joint[:, 0].sum()
    true = {"precision": hit / guessed, "recall": hit / truth, "f1": 2 * hit / (guessed + truth)}
    matrices = np.random.default_rng(0).multinomial(size, joint.ravel(), 1000).reshape(-1, 3, 3)
    scores = [per_class_scores(matrix, "abc")["a"] for matrix in matrices]
    for name, value in true.items():
        assert 0.93 < np.mean([held(row[f"{name}_interval"], value) for row in scores]) < 0.975, name


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.5])
def test_interval_of_calibration_error_holds_the_truth_19_times_in_20(temperature):
    # A percentile bootstrap holds it in none of the draws of a calibrated model.
    true = expected_calibration_error(*judged(200_000, temperature=temperature, seed=1))
    intervals = [
        summarize(*judged(300, temperature=temperature, seed=seed), "abcde")["ece_interval"] for seed in range(2, 102)
    ]
    noise = 0.003  # left in what is taken for the truth
    assert np.mean([held((low - noise, high), true) for low, high in intervals]) >= 0.9


def test_calibration_error_of_a_calibrated_model_is_that_of_labels_drawn_from_it():
    probabilities, _ = judged(500)
    random = np.random.default_rng(0)
    cumulated = probabilities.cumsum(axis=1)
    drawn = [(random.random((500, 1)) > cumulated).sum(axis=1).clip(0, 4) for _ in range(200)]
    expected = np.mean([expected_calibration_error(probabilities, labels) for labels in drawn])
    assert summarize(probabilities, drawn[0], "abcde")["ece_if_calibrated"] == pytest.approx(expected, rel=0.05)


def test_reliability_has_bins_of_equal_mass_that_add_up_to_the_calibration_error():
    probabilities, truth = judged(1000, temperature=0.5)
    bins = reliability(probabilities, truth)
    assert {row["count"] for row in bins} == {66, 67}
    gaps = [row["count"] * abs(row["confidence"] - row["accuracy"]) for row in bins]
    assert sum(gaps) / 1000 == pytest.approx(expected_calibration_error(probabilities, truth))
    confidences = [row["confidence"] for row in bins]
    assert confidences == sorted(confidences)
    assert all(held(row["interval"], row["accuracy"]) for row in bins)


def test_fewer_pictures_than_bins_are_a_bin_each():
    assert [row["count"] for row in reliability(*judged(4))] == [1] * 4


def test_risk_coverage_goes_from_the_surest_guess_to_all():
    confidences, correct = np.array([0.9, 0.5, 0.8, 0.7]), np.array([True, False, True, False])
    curve = risk_coverage(confidences, correct)
    assert [row["coverage"] for row in curve] == [0.25, 0.5, 0.75, 1]
    assert [row["accuracy"] for row in curve] == [1, 1, 2 / 3, 0.5]
    assert [row["threshold"] for row in curve] == [0.9, 0.8, 0.7, 0.5]


def test_guesses_of_one_confidence_are_one_point_of_risk_coverage():
    curve = risk_coverage(np.array([1.0, 1.0, 1.0, 0.5]), np.array([True, False, False, True]))
    assert [(row["coverage"], row["accuracy"]) for row in curve] == [(0.75, 1 / 3), (1, 0.5)]


def test_risk_coverage_of_many_keeps_both_ends():
    probabilities, truth = judged(5000)
    correct = probabilities.argmax(axis=1) == truth
    curve = risk_coverage(probabilities.max(axis=1), correct)
    assert len(curve) == 100
    assert (curve[0]["coverage"], curve[-1]["coverage"]) == (1 / 5000, 1)
    assert curve[-1]["accuracy"] == correct.mean()


def test_threshold_has_the_seven_rows_of_the_old_toolchain():
    # 2,025 pictures, of which 1,843 reach the threshold, 5 of these wrongly.
    probabilities = np.tile([0.995, 0.005], (2025, 1))
    probabilities[1843:] = 0.6, 0.4
    truth = np.zeros(2025, int)
    truth[:5] = 1
    rows = summarize(probabilities, truth, "ab", threshold=0.99)["at_threshold"]
    counts = ("total_images", "threshold_images", "missed", "correct", "misclassified")
    assert [rows[key] for key in counts] == [2025, 1843, 182, 1838, 5]
    assert [round(100 * rows[key], 2) for key in ("total_accuracy", "threshold_accuracy")] == [90.77, 99.73]


def test_confidence_at_the_threshold_is_covered():
    summary = summarize(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 0]), "ab", threshold=0.75)
    assert summary["coverage"] == 1


def test_mistakes_made_most_often_come_first():
    confused = most_confused(np.array([[5, 0, 4], [1, 9, 0], [0, 2, 0]]), "abc")
    assert [(row["truth"], row["guess"], row["count"]) for row in confused] == [
        ("a", "c", 4), ("c", "b", 2), ("b", "a", 1),
    ]  # fmt: skip
    assert confused[0]["share"] == 4 / 9
    assert confused[0]["share_interval"] == list(wilson_interval(4, 9))


# Whole numbers, so that many scores are tied.
SCORES = st.lists(st.integers(0, 9), min_size=1, max_size=40).map(lambda scores: np.array(scores, float))


@given(SCORES, SCORES)
def test_auroc_is_scikit_learns(known, unknown):
    truth = np.repeat([1, 0], [len(known), len(unknown)])
    assert auroc(known, unknown) == pytest.approx(oracle.roc_auc_score(truth, np.concatenate([known, unknown])))


@given(SCORES, SCORES, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_false_positive_rate_is_scikit_learns(known, unknown, recall):
    truth = np.repeat([1, 0], [len(known), len(unknown)])
    scores = np.concatenate([known, unknown])
    false_positives, recalls, _ = oracle.roc_curve(truth, scores, drop_intermediate=False)
    expected = false_positives[recalls >= recall - 1e-9].min()
    assert false_positive_rate_at(known, unknown, recall) == pytest.approx(expected)


@pytest.mark.parametrize(("distance", "known", "unknown"), [(1, 60, 30), (2, 200, 75), (3, 170, 75)])
def test_intervals_of_the_unknown_hold_the_truth_19_times_in_20(distance, known, unknown):
    normal = NormalDist()
    true = {"auroc": normal.cdf(distance / 2**0.5), "fpr95": normal.cdf(normal.inv_cdf(0.95) - distance)}
    random = np.random.default_rng(0)
    found = [summarize_unknown(random.normal(distance, 1, known), random.normal(0, 1, unknown)) for _ in range(400)]
    for name, value in true.items():
        assert 0.92 < np.mean([held(row[f"{name}_interval"], value) for row in found]) < 0.985, name


def test_unknown_told_apart_every_time_is_no_certainty():
    found = summarize_unknown(np.arange(20) + 10.0, np.arange(10.0))
    assert (found["auroc"], found["fpr95"]) == (1, 0)
    assert 0.7 < found["auroc_interval"][0] < found["auroc_interval"][1] == 1
    assert 0 == found["fpr95_interval"][0] < found["fpr95_interval"][1] < 0.5
