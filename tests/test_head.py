import sys
import warnings
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from retrain import head
from retrain.errors import RetrainError
from retrain.head import (
    C_GRID,
    DEFAULT_C,
    fit_head,
    fit_path,
    make_folds,
    normalize,
    require_scikit_learn,
    search_C,
)
from retrain.metrics import softmax


def drawn(rows, classes=3, size=16, spread=0.6, seed=0):
    """Normalized embeddings around one direction a class, their labels, and a hash each."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = random.normal(size=(classes, size))
    embeddings = normalize([(centres[labels] + random.normal(scale=spread, size=(rows, size))).astype(np.float32)])
    return embeddings, labels, [sha256(bytes([seed]) + row.to_bytes(4)).digest() for row in range(rows)]


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("C", [1.0, 30.0])
def test_head_is_scikit_learns_on_scaled_rows(classes, C):
    embeddings, labels, _ = drawn(300, classes)
    centred = embeddings - embeddings.mean(axis=0)
    centred /= np.sqrt((centred**2).sum(axis=1).mean())
    oracle = LogisticRegression(C=C, class_weight="balanced", tol=1e-6, max_iter=10_000).fit(centred, labels)
    found = softmax(fit_head(embeddings, labels, classes, C).logits(embeddings))
    assert found == pytest.approx(oracle.predict_proba(centred), abs=0.01)
    assert np.array_equal(found.argmax(axis=1), oracle.predict(centred))


def test_rare_class_counts_as_much_as_a_common_one():
    embeddings, labels, _ = drawn(400, 2, spread=1.5)
    keep = (labels == 0) | (np.arange(400) < 40)
    guesses = fit_head(embeddings[keep], labels[keep], 2, 1.0).logits(embeddings).argmax(axis=1)
    assert np.mean(guesses == 1) > 0.3


def test_unweighted_rare_class_is_seldom_guessed():
    embeddings, labels, _ = drawn(400, 2, spread=1.5)
    keep = (labels == 0) | (np.arange(400) < 40)
    shares = [
        np.mean(fit_head(embeddings[keep], labels[keep], 2, 1.0, weighted).logits(embeddings).argmax(axis=1))
        for weighted in (True, False)
    ]
    assert shares[0] > 1.5 * shares[1]


@pytest.mark.parametrize("weighted", [True, False])
def test_search_fits_as_it_is_told(weighted, monkeypatch):
    seen = []

    def spy(*arguments, weighted, real=fit_path):
        seen.append(weighted)
        return real(*arguments, weighted=weighted)

    monkeypatch.setattr(head, "fit_path", spy)
    embeddings, labels, hashes = drawn(60)
    search_C(embeddings, labels, hashes, 3, 0, weighted)
    assert set(seen) == {weighted}


def test_class_of_one_row_can_be_guessed():
    embeddings, labels, _ = drawn(61)
    labels = np.where(np.arange(61) == 60, 3, labels)
    assert fit_head(embeddings, labels, 4, 100.0).logits(embeddings[60:]).argmax() == 3


def test_class_without_rows_is_never_guessed():
    embeddings, labels, _ = drawn(60)
    fitted = fit_head(embeddings, np.where(labels == 1, 3, labels), 5, 1.0)
    assert fitted.weights.shape == (5, 16)
    assert softmax(fitted.logits(embeddings))[:, [1, 4]].max() == 0


def test_identical_rows_are_no_trouble():
    embeddings = np.full((6, 4), 0.5, np.float32)
    assert np.isfinite(fit_head(embeddings, np.arange(6) % 2, 2, 1.0).logits(embeddings)).all()


def test_same_rows_give_same_bytes():
    embeddings, labels, _ = drawn(300)
    first, again = (fit_head(embeddings.copy(), labels, 3, 10.0) for _ in range(2))
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.intercept.tobytes() == again.intercept.tobytes()


def test_path_ends_where_a_fit_of_its_own_ends(monkeypatch):
    embeddings, labels, _ = drawn(200)
    monkeypatch.setattr(head, "TOLERANCE", 1e-6)
    *_, last = fit_path(embeddings, labels, 3, C_GRID)
    alone = next(fit_path(embeddings, labels, 3, C_GRID[-1:]))
    assert last.logits(embeddings) == pytest.approx(alone.logits(embeddings), abs=0.05)


def test_head_of_many_classes_with_many_rows_begins_to_learn(monkeypatch):
    """Where each class has its thousandth of the rows, no single number of the gradient is large."""
    monkeypatch.setattr(head, "MAX_ITERATIONS", 3)
    random, labels = np.random.default_rng(0), np.repeat(np.arange(1_000), 20)
    means = np.abs(random.standard_normal((1_000, 512), np.float32))
    rows = np.maximum(means[labels] + 3 * random.standard_normal((len(labels), 512), np.float32), 0)
    embeddings = normalize([rows])
    with warnings.catch_warnings(action="ignore"):  # that three are few
        guesses = fit_head(embeddings, labels, 1_000, 30.0).logits(embeddings).argmax(axis=1)
    assert np.mean(guesses == labels) > 0.5


def test_embeddings_are_not_changed():
    embeddings, labels, _ = drawn(60)
    before = embeddings.copy()
    fit_head(embeddings, labels, 3, 1.0)
    assert np.array_equal(embeddings, before)


def test_normalized_rows_have_length_one_and_equal_parts():
    random = np.random.default_rng(0)
    parts = [random.normal(size=(5, 8)).astype(np.float32), random.normal(scale=100, size=(5, 3)).astype(np.float32)]
    rows = normalize(parts)
    assert (rows.shape, rows.dtype) == ((5, 11), np.float32)
    assert (rows[:, :8] ** 2).sum(axis=1) == pytest.approx(0.5)
    assert (rows[:, 8:] ** 2).sum(axis=1) == pytest.approx(0.5)


def test_zero_embedding_stays_zero():
    assert not normalize([np.zeros((1, 4), np.float32)]).any()


def digests(numbers):
    return [sha256(str(number).encode()).digest() for number in numbers]


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=80)


@given(ROWS)
def test_equal_rows_share_a_fold_and_every_fold_trains_every_class(rows):
    labels, contents = (np.array(column) for column in zip(*rows, strict=True))
    folds = make_folds(labels, digests(contents))
    for content in contents:
        assert len(set(folds[contents == content])) == 1
    for fold in range(folds.max() + 1):
        assert (folds == fold).any()
        assert set(labels[folds != fold]) == set(labels)


def test_folds_spread_each_class_evenly():
    labels = np.array([0] * 50 + [1] * 10)
    folds = make_folds(labels, digests(range(60)))
    assert np.bincount(folds[:50]).tolist() == [10] * 5
    assert np.bincount(folds[50:]).tolist() == [2] * 5


def test_many_rows_have_three_folds():
    assert make_folds(np.arange(2_100) % 2, digests(range(2_100))).max() == 2


def test_another_seed_deals_other_folds():
    labels = np.repeat([0, 1], 50)
    hashes = [f"{n:032}".encode() for n in range(100)]
    first, same, other = (make_folds(labels, hashes, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_folds_see_hashes_not_order():
    labels, hashes = np.arange(40) % 2, digests(range(40))
    order = np.random.default_rng(0).permutation(40)
    shuffled = make_folds(labels[order], [hashes[row] for row in order])
    assert np.array_equal(shuffled, make_folds(labels, hashes)[order])


def test_search_is_by_loss_of_rows_not_learned_from():
    embeddings, _, hashes = drawn(200, size=200)
    # Labels without meaning can be learned by heart, and not foretold.
    labels = np.random.default_rng(1).integers(0, 3, 200)
    search = search_C(embeddings, labels, hashes, 3)
    learned = fit_head(embeddings, labels, 3, search.C).logits(embeddings).argmax(axis=1)
    assert np.mean(search.logits.argmax(axis=1) == labels) < 0.45
    assert np.mean(learned == labels) > 0.7


def test_search_scores_every_row_well_where_classes_are_clear():
    embeddings, labels, hashes = drawn(100, spread=0.1)
    search = search_C(embeddings, labels, hashes, 3)
    assert search.rows.tolist() == list(range(100))
    assert np.mean(search.logits.argmax(axis=1) == labels) == 1


@pytest.mark.parametrize("groups", [[1, 2], [1, 1, 1, 2, 2]])
def test_search_without_two_groups_of_a_class_keeps_the_default(groups):
    embeddings, _, _ = drawn(len(groups))
    search = search_C(embeddings, np.array(groups) - 1, digests(groups), 2)
    assert (search.C, len(search.rows), search.logits.shape) == (DEFAULT_C, 0, (0, 2))


def test_search_with_one_picture_in_two_classes_goes_on():
    embeddings, _, _ = drawn(6)
    search = search_C(embeddings, np.array([0, 0, 0, 0, 0, 1]), digests([0, 1, 2, 3, 4, 0]), 2)
    assert search.C in C_GRID


def test_large_search_is_on_a_sample_with_every_class(monkeypatch):
    monkeypatch.setattr(head, "SEARCH_ROWS", 100)
    monkeypatch.setattr(head, "SAMPLE_ROWS", 60)
    embeddings, labels, hashes = drawn(400, 2)
    labels = np.where(np.arange(400) < 3, 2, labels)
    search = search_C(embeddings, labels, hashes, 3)
    assert 55 <= len(search.rows) <= 65
    assert np.bincount(labels[search.rows])[2] == 2


def test_sample_is_by_hash_not_order(monkeypatch):
    monkeypatch.setattr(head, "SEARCH_ROWS", 100)
    monkeypatch.setattr(head, "SAMPLE_ROWS", 50)
    embeddings, labels, hashes = drawn(200)
    order = np.random.default_rng(0).permutation(200)
    before = search_C(embeddings, labels, hashes, 3).rows
    after = search_C(embeddings[order], labels[order], [hashes[row] for row in order], 3).rows
    assert set(order[after]) == set(before)


def test_missing_scikit_learn_is_told_with_what_to_do(monkeypatch):
    require_scikit_learn()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(RetrainError, match="scikit-learn") as error:
        require_scikit_learn()
    assert "retrain:full" in error.value.hint
