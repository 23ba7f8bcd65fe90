from itertools import pairwise, product

import numpy as np
import pytest

from retrain.segments import LAG_S, SCENE_S, Moment, Segment, _likelihood, find_segments, smooth

STEP_S = 0.1
LETTERS = "ABC"


def moments(text, step_s=STEP_S, confidence=0.8):
    """A moment a letter: A, B or C is seen, or nothing known; of a dot, all alike."""
    for number, letter in enumerate(text):
        probabilities = np.full(3, (1 - confidence) / 2) if letter != "." else np.full(3, 1 / 3)
        if letter != ".":
            probabilities[LETTERS.find(letter) if letter != "?" else 0] = confidence
        yield Moment(number * step_s, (number + 1) * step_s, probabilities, letter == "?", f"{letter}{number}")


def told(moments, shortest_s=0.5):
    """`A0.0-1.0 B1.0-2.0` of what is found."""
    return " ".join(
        f"{'?' if each.unknown else LETTERS[each.number]}{each.start_s:.1f}-{each.end_s:.1f}"
        for each in find_segments(moments, shortest_s)
    )


def by_themselves(*arguments, **options):
    return smooth(moments(*arguments, **options), 0)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("", ""),
        ("A", "A0.0-0.1"),
        ("AAAAAAAAAABBBBBBBBBB", "A0.0-1.0 B1.0-2.0"),
        ("AAAAABBBBB", "A0.0-0.5 B0.5-1.0"),  # as long as is asked for
        ("AAAAAABBAAAAAA", "A0.0-1.4"),  # a flicker in between
        ("AAAAAABBCCCCCC", "A0.0-0.8 C0.8-1.4"),  # belongs to what was before
        ("BBAAAAAA", "A0.0-0.8"),  # at the beginning, to what comes after
        ("AAAAAABB", "A0.0-0.8"),
        ("AAAAAA??BBBBBB??????", "A0.0-0.8 B0.8-1.4 ?1.4-2.0"),
        ("ABAABABA", "A0.0-0.8"),  # nothing but flicker: what is seen most
        ("??A??A?B", "?0.0-0.8"),
        ("CCCCCCABBABBABBCCCCCC", "C0.0-0.6 B0.6-1.5 C1.5-2.1"),
        ("AAAAAABAABAABAAAAAA", "A0.0-1.9"),
    ],
)
def test_stretches_are_found_and_short_ones_belong_to_a_neighbour(seen, expected):
    assert told(by_themselves(seen)) == expected


def test_nothing_is_too_short_where_no_length_is_asked_for():
    assert told(by_themselves("AB?B"), shortest_s=0) == "A0.0-0.1 B0.1-0.2 ?0.2-0.3 B0.3-0.4"


def test_moments_farther_apart_than_the_shortest_segment_each_count():
    assert told(by_themselves("ABBA", step_s=5), shortest_s=1) == "A0.0-5.0 B5.0-15.0 A15.0-20.0"


def test_segment_has_the_mean_confidence_of_its_class_by_time():
    seen = [Moment(0, 3, np.array([0.9, 0.1]), False), Moment(3, 4, np.array([0.6, 0.4]), False)]
    assert list(find_segments(smooth(seen, 0), 0)) == [Segment(0, 4, 0, pytest.approx(0.825), False)]


def test_unknown_segment_names_what_is_nearest():
    (segment,) = find_segments(by_themselves("???"), 0)
    assert (segment.unknown, segment.number, segment.confidence) == (True, 0, pytest.approx(0.8))


def test_segment_keeps_the_picture_in_which_its_class_is_seen_best():
    seen = [Moment(time, time + 1, np.array([share, 1 - share]), False, share) for time, share in enumerate([0.6, 0.9])]
    assert [each.picture for each in find_segments(smooth(seen, 0), 0)] == [0.9]


def test_picture_of_a_flicker_does_not_stand_for_the_segment():
    seen = [*moments("AAAAAA", confidence=0.6), *moments("B", confidence=0.99), *moments("AAAAAA", confidence=0.6)]
    seen = [each._replace(start_s=number, end_s=number + 1) for number, each in enumerate(seen)]
    (segment,) = find_segments(smooth(seen, 0), 2)
    assert segment.picture.startswith("A")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("A" * 30 + "B" * 30, "A0.0-3.0 B3.0-6.0"),  # a cut stays where it is
        ("AAAAAA....CB....BC....AAAAAA", "A0.0-2.8"),  # what is not seen well is likely still there
        ("ABAABACAABAACA" * 3, "A0.0-4.2"),
        ("A" * 20 + "?" * 30, "A0.0-2.0 ?2.0-5.0"),
    ],
)
def test_what_is_there_is_told_from_what_is_seen_before_and_after(seen, expected):
    assert told(smooth(moments(seen), 0.5)) == expected


@pytest.mark.parametrize("step_s", [0.02, 0.1, 0.25])
def test_more_frames_of_a_second_do_not_tell_more(step_s):
    """A short mistake is passed over and a long one believed, at whatever rate."""
    for seconds, expected in [(1, "A0.0-9.0"), (5, "A0.0-4.0 B4.0-9.0 A9.0-13.0")]:
        seen = "".join(letter * round(long / step_s) for letter, long in zip("ABA", (4, seconds, 4), strict=True))
        assert told(smooth(moments(seen, step_s=step_s), 1)) == expected


def test_what_is_there_is_the_likeliest_of_all_chains():
    """All chains of classes, of which there are few here, are the oracle."""
    random = np.random.default_rng(0)
    for _ in range(50):
        times = np.append(0, random.uniform(1, 4, 5).cumsum())
        seen = [
            Moment(start, end, random.dirichlet([0.4] * 3), bool(random.random() < 0.3))
            for start, end in pairwise(times)
        ]
        stays = [np.exp(-(after.start_s - before.start_s) / SCENE_S) for before, after in pairwise(seen)]

        def score(chain, seen=seen, stays=stays):
            steps = [
                np.log(stay * (before == after) + (1 - stay) / 4)
                for (before, after), stay in zip(pairwise(chain), stays, strict=True)
            ]
            return sum(steps) + sum(_likelihood(each, 1.0)[there] for each, there in zip(seen, chain, strict=True))

        best = max(product(range(4), repeat=len(seen)), key=score)
        assert tuple(moment.there for moment in smooth(seen, 1.0)) == best


def test_what_is_far_in_the_future_changes_nothing():
    """Of a film longer than the lag the beginning is told before its end is seen."""
    seen = list(moments("AAAAAAAAB?C" * 80))
    whole, parts = ([each.there for each in smooth(part, 1)] for part in (seen, seen[:500]))
    assert whole[:300] == parts[:300]
    assert [each.start_s for each in smooth(seen, 1)] == [each.start_s for each in seen]


def test_no_more_moments_are_held_than_the_lag_has():
    """What was given and not yet taken back, at the most."""
    held, most = 0, 0

    def giving():
        nonlocal held, most
        for moment in moments("AB" * 2000):
            held += 1
            most = max(most, held)
            yield moment

    def taking(smoothed):
        nonlocal held
        for moment in smoothed:
            held -= 1
            yield moment

    assert list(find_segments(taking(smooth(giving(), 1)), 1))
    assert most <= 2 * LAG_S / STEP_S + 2
