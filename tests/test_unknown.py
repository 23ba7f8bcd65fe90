import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor

from retrain import unknown
from retrain.head import normalize
from retrain.metrics import auroc
from retrain.unknown import NEIGHBOURS, cross_fit, features, fit, from_arrays, to_arrays

RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.gamma(0.5, size=(5, 40))


def drawn(label, rows):
    """Embeddings as networks give them, none negative: around the centre of a class, or of a stranger."""
    return normalize([(CENTRES[label] * RANDOM.gamma(4, size=(rows, 40))).astype(np.float32)])


@pytest.fixture(scope="module")
def known():
    """Embeddings and labels of three classes."""
    return np.concatenate([drawn(label, 60) for label in range(3)]), np.repeat(np.arange(3), 60)


@pytest.fixture(scope="module")
def detector(known):
    return cross_fit(*known, np.arange(180) % 5)[0]


def test_strangers_score_lower_than_what_is_known(detector):
    new, strange = (np.concatenate([drawn(label, 100) for label in labels]) for labels in [range(3), (3, 4)])
    assert auroc(detector.scores(new), detector.scores(strange)) > 0.99


def test_scores_of_folds_are_those_of_new_pictures(known):
    detector, scores = cross_fit(*known, np.arange(180) % 5)
    new = detector.scores(np.concatenate([drawn(label, 300) for label in range(3)]))
    limit = np.sort(scores)[len(scores) // 10]
    assert np.mean(new < limit) == pytest.approx(0.1, abs=0.05)


def test_no_picture_is_scored_by_a_detector_that_learned_it(known):
    """All copies of one picture: whoever had learned it would find it again at a cosine of 1."""
    embeddings, labels = known
    embeddings = embeddings.copy()
    embeddings[:12] = drawn(4, 1)
    folds = np.where(np.arange(180) < 12, 0, 1 + np.arange(180) % 4)
    _, scores = cross_fit(embeddings, labels, folds)
    assert scores[:12].max() < np.quantile(scores[12:], 0.05)


def test_rows_without_a_fold_are_learned_and_not_scored(known):
    folds = np.arange(180) % 5
    folds[:7] = -1
    assert len(cross_fit(*known, folds)[1]) == 173


def test_outlier_factors_are_those_of_scikit_learn(known):
    embeddings, labels = known
    detector, new = fit(embeddings, labels), np.concatenate([drawn(label, 20) for label in range(5)])
    places = (features(new) - detector.centre) @ detector.axes.T
    expected = [
        np.log(
            -LocalOutlierFactor(n_neighbors=count, novelty=True)
            .fit(detector.neighbourhood.places)
            .score_samples(places)
        )
        for count in NEIGHBOURS
    ]
    assert detector.neighbourhood.log_outlier_factors(places) == pytest.approx(np.mean(expected, axis=0), abs=1e-3)


def test_distances_are_those_of_the_whole_covariance(known):
    embeddings, labels = known
    detector = fit(embeddings, labels)
    gaussian, rows, means = detector.within, features(embeddings[:9]), detector.means
    shares = gaussian.discounts.astype(float)
    variances = np.where(shares < 1, gaussian.base * shares / (1 - shares), 0)
    covariance = gaussian.base * np.eye(40) + (gaussian.directions.T * variances) @ gaussian.directions
    for row, found in zip(rows, gaussian.squared_distances(rows, means), strict=True):
        expected = [(row - mean) @ np.linalg.solve(covariance, row - mean) for mean in means]
        assert found == pytest.approx(expected, rel=1e-2)


def test_detector_comes_back_as_it_was(detector, known):
    assert np.array_equal(from_arrays(to_arrays(detector)).scores(known[0]), detector.scores(known[0]))


def test_pictures_may_come_in_any_number(detector, known, monkeypatch):
    expected = detector.scores(known[0])
    monkeypatch.setattr(unknown, "BLOCK", 7)
    assert detector.scores(known[0]) == pytest.approx(expected, abs=1e-4)
    assert detector.scores(known[0][:0]).shape == (0,)


def test_few_references_are_enough(known, monkeypatch):
    monkeypatch.setattr(unknown, "REFERENCES", 30)
    detector, _ = cross_fit(*known, np.arange(180) % 5)
    assert len(detector.neighbourhood.rows) == 30
    assert auroc(detector.scores(drawn(0, 50)), detector.scores(drawn(3, 50))) > 0.95


@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_too_few_pictures_give_no_detector(rows):
    detector, scores = cross_fit(drawn(0, rows), np.arange(rows) % 2, np.arange(rows) % 5)
    assert detector is None
    assert len(scores) == 0


def test_pictures_all_alike_are_no_reason_to_fail():
    embeddings = np.repeat(drawn(0, 1), 40, axis=0)
    detector, scores = cross_fit(embeddings, np.arange(40) % 2, np.arange(40) % 5)
    assert np.isfinite(scores).all()
    assert detector.scores(drawn(4, 1)) < scores.min()
