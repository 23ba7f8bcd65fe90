import numpy as np
import pytest

from retrain.head import normalize
from retrain.odd import FEWEST, STRANGE, doubts, find_odd, margin, place, stands_out, strangeness

RANDOM = np.random.default_rng(0)


def drawn(kind, rows, spread=0.5):
    """Places of pictures of a kind: around an axis of their own, the nearer the smaller the spread."""
    places = spread * RANDOM.normal(size=(rows, 64)) / 8
    places[:, kind] += 1
    return (places / np.linalg.norm(places, axis=1, keepdims=True)).astype(np.float32)


def test_one_of_another_kind_is_found_wherever_it_stands():
    for position in range(6):
        rows = np.insert(drawn(0, 5), position, drawn(1, 1), axis=0)
        odd, scores = find_odd(rows)
        assert odd == [position]
        assert scores.argmax() == position


def test_several_are_found_alike_or_not():
    assert set(find_odd(np.concatenate([drawn(0, 6), drawn(1, 2)]))[0]) == {6, 7}
    assert set(find_odd(np.concatenate([drawn(0, 6), drawn(1, 1), drawn(2, 1)]))[0]) == {6, 7}


@pytest.mark.parametrize("rows", range(FEWEST, 12))
def test_none_stands_out_where_all_are_of_a_kind(rows):
    assert find_odd(drawn(0, rows))[0] == []


@pytest.mark.parametrize("rows", range(FEWEST, 12))
def test_odd_ones_are_fewer_than_half_even_where_no_two_are_alike(rows):
    strangers = np.eye(64, dtype=np.float32)[:rows]
    assert 2 * len(find_odd(strangers)[0]) < rows


def test_scores_are_mean_distances_to_those_that_belong_together():
    rows = np.concatenate([drawn(0, 5), drawn(1, 1)])
    _, scores = find_odd(rows)
    kept = range(5)
    expected = [
        np.mean([1 - row @ rows[other] for other in kept if other != number]) for number, row in enumerate(rows)
    ]
    assert scores == pytest.approx(expected, abs=1e-6)


def test_copies_do_not_stand_out_from_one_another():
    odd, scores = find_odd(np.repeat(drawn(0, 1), 4, axis=0))
    assert odd == []
    assert scores == pytest.approx(0, abs=1e-6)


def test_among_looser_and_among_more_pictures_the_odd_one_must_lie_farther():
    tight, loose = np.array([0.1] * 5 + [0.8]), np.array([0.5] * 5 + [0.8])
    assert stands_out(tight) > stands_out(loose)
    assert stands_out(tight) > stands_out(np.array([0.1] * 50 + [0.8]))


def test_where_the_others_are_much_alike_a_gap_is_enough():
    assert stands_out(np.array([0.05] * 5 + [0.5])) > 0
    assert stands_out(np.array([0.5] * 5 + [0.7])) < 0


def test_what_all_pictures_have_in_common_is_taken_away():
    common = np.zeros(64, np.float32)
    common[0] = 0.9
    embeddings = np.square(drawn(1, 4, spread=0.01) + 3 * drawn(0, 4, spread=0.01)).astype(np.float32)
    strangers = np.square(drawn(2, 4, spread=0.01) + 3 * drawn(0, 4, spread=0.01)).astype(np.float32)

    def similarity(mean):
        rows = place([np.concatenate([embeddings, strangers])], [mean])
        return (rows[:4] @ rows[4:].T).mean()

    assert similarity(common) < similarity(0 * common) - 0.3


def test_places_of_two_networks_count_alike():
    parts = [RANDOM.random((5, 30)).astype(np.float32), 100 * RANDOM.random((5, 20)).astype(np.float32)]
    rows = place(parts, [np.zeros(30, np.float32), np.zeros(20, np.float32)])
    assert np.square(rows[:, :30]).sum(axis=1) == pytest.approx(0.5, abs=1e-5)


def test_doubts_grow_with_strangeness():
    limits = np.linspace(-10, -1, 99)
    found = doubts(np.full(3, 0.9, np.float32), np.array([-2, -9.9, -50]), limits)
    assert found[0] == pytest.approx(0.1)
    assert found[0] < found[1] < found[2]
    assert found[2] == pytest.approx(1 - 0.9 * 0.1)


@pytest.mark.parametrize(("known", "limits"), [(None, [1]), (np.array([-50]), [])])
def test_doubts_are_those_of_the_confidence_where_nobody_can_tell_what_is_known(known, limits):
    assert doubts(np.array([0.7], np.float32), known, np.array(limits)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("odd", "expected"), [([3], 0.4), ([3, 2], 0.2), ([], 0.4), ([0, 1, 2, 3], None)], ids=["one", "two", "none", "all"]
)
def test_margin_lies_between_the_odd_ones_and_the_others(odd, expected):
    assert margin(np.array([0.1, 0.2, 0.4, 0.8]), odd) == (expected and pytest.approx(expected))


def test_as_many_of_a_kind_are_strange_as_asked_for():
    random = np.random.default_rng(0)
    known = normalize([np.float32([1, 0, 0, 0]) + 0.3 * random.normal(size=(199, 4)).astype(np.float32)])
    alike = normalize([np.float32([1, 0, 0, 0]) + 0.3 * random.normal(size=(2000, 4)).astype(np.float32)])
    scores = strangeness(alike, known)
    assert np.mean(scores > 1 - STRANGE) == pytest.approx(STRANGE, abs=0.02)
    assert (strangeness(-known, known) == scores.max()).all()
    assert 0 <= scores.min() <= scores.max() < 1


def test_two_pictures_of_a_kind_are_enough_to_tell_strangeness():
    known = np.float32([[1, 0], [0.8, 0.6]])
    assert strangeness(known, known).shape == (2,)
