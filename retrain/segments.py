"""From what is seen at each moment to the stretches of time in which one thing is seen.  Arrays in, segments out.

A film is a hidden Markov chain: what is there at one moment is likely there at the next, whether it is seen well or
not.  The Viterbi algorithm (Viterbi 1967, doi:10.1109/TIT.1967.1054010) finds what is there at all of them together,
from what was before and what comes in the next seconds, so that no more is held than these seconds have.
"""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

SCENE_S = 5.0  # for so long one thing is there, in the mean
LAG_S = 15.0  # what comes later than this changes nothing
UNKNOWN = 100  # so much likelier than the best class nothing known looks unknown, and the other way round
LEAST = 1e-6  # no probability counts as less: none is that sure


class Moment(NamedTuple):
    """What is seen from start_s until end_s.  probabilities: (classes,); picture: whatever shall stay with it.

    there: the number of the class that is there; that of classes where it is nothing known.  -1 until it is smoothed.
    """

    start_s: float
    end_s: float
    probabilities: np.ndarray
    unknown: bool
    picture: Any = None
    there: int = -1

    @property
    def is_known(self):
        return self.there < len(self.probabilities)


@dataclass
class Segment:
    """A stretch of time in which one class is there, or nothing known.  confidence: the mean of that class in it."""

    start_s: float
    end_s: float
    number: int  # of the class; of the nearest one where unknown
    confidence: float
    unknown: bool
    picture: Any = field(default=None, repr=False)  # of the moment in which the class is seen best


def smooth(moments, picture_s):
    """Yield each Moment with what is there.  picture_s: in so many seconds a film tells as much as one picture.

    0: each moment stands for itself.
    """
    held: list[Moment] = []
    ways: list[tuple[np.ndarray, int]] = []  # to each moment: whether each class began there, and what was before these
    score = 0.0
    for moment in moments:
        seen = _likelihood(moment, picture_s)
        if not picture_s:
            yield moment._replace(there=int(seen.argmax()))
            continue
        if held:
            # Where there are many frames a second, one step of the chain is as long as a picture, whatever the rate.
            way, score = _step(score, max(moment.start_s - held[-1].start_s, picture_s))
            ways.append(way)
        score = score + seen
        score -= score.max()
        held.append(moment)
        if moment.start_s - held[0].start_s > 2 * LAG_S:
            count = sum(moment.start_s - other.start_s >= LAG_S for other in held)
            yield from _traced(held, ways, score)[:count]
            del held[:count], ways[:count]
    if held:
        yield from _traced(held, ways, score)


def _step(score, seconds):
    """From the score of each class to that at the next moment, and the way there."""
    stays, best = np.exp(-seconds / SCENE_S), int(score.argmax())
    changes = (1 - stays) / len(score)
    changing = score[best] + np.log(changes / (stays + changes))
    return (changing > score, best), np.maximum(score, changing)


def _traced(held, ways, score):
    """The moments with what is there, along the best way that ends with the last."""
    there = int(score.argmax())
    traced = [held[-1]._replace(there=there)]
    for moment, (began, before) in zip(reversed(held[:-1]), reversed(ways), strict=True):
        there = before if began[there] else there
        traced.append(moment._replace(there=there))
    return traced[::-1]


def _likelihood(moment, picture_s):
    """Logarithm of how likely each class, and last nothing known, looks like that: (classes + 1,), the largest 0."""
    classes = np.asarray(moment.probabilities, np.float64)
    seen = np.append(classes, classes.max() * (UNKNOWN if moment.unknown else 1 / UNKNOWN))
    # Frames of one second look alike, and do not tell more than one picture, however many they are.
    weight = min(1.0, (moment.end_s - moment.start_s) / picture_s) if picture_s else 1.0
    return np.log(np.maximum(seen / seen.max(), LEAST)) * weight


def find_segments(moments, shortest_s):
    """Yield the Segments of moments that are smoothed, in order.

    A stretch shorter than shortest_s belongs to what was there before it; at the beginning, to what comes after.  Where
    many of these follow one another, they are one segment: of what is seen most in all of them.
    """
    kept = None
    for run in _long_enough(_runs(moments), shortest_s - 1e-6):
        if kept and kept.there == run.there:
            kept.join(run)
        else:
            if kept:
                yield kept.segment()
            kept = run
    if kept:
        yield kept.segment()


def _runs(moments):
    """Yield a _Run for all moments in a row at which the same is there."""
    run = None
    for moment in moments:
        if run and run.there != moment.there:
            yield run
            run = None
        run = run or _Run(moment)
        run.add(moment)
    if run:
        yield run


def _long_enough(runs, shortest_s):
    """Yield the runs, those that are too short as parts of others."""
    before = short = None
    for run in chain(runs, [None]):
        if run and run.lasts < shortest_s:
            short = short.join(run) if short else run
            continue
        if short and before and short.lasts < shortest_s:
            before.join(short)
        elif short and run and short.lasts < shortest_s:
            run.join(short)
        elif short:
            if before:
                yield before
            before = short.rename()
        if before:
            yield before
        before, short = run, None


class _Run:
    """Moments in a row at which the same is there.  It does not grow with their number."""

    def __init__(self, moment):
        self.there, self.start_s, self.end_s, self.lasts = moment.there, moment.start_s, moment.start_s, 0.0
        self.totals = np.zeros(len(moment.probabilities))  # probabilities times seconds
        self.unknown_s, self.best, self.picture = 0.0, -1.0, None

    def add(self, moment):
        seconds = max(moment.end_s - moment.start_s, 1e-9)
        self.totals += moment.probabilities * seconds
        self.lasts, self.end_s = self.lasts + seconds, moment.end_s
        self.unknown_s += 0 if moment.is_known else seconds
        best = float(moment.probabilities[self.there] if moment.is_known else moment.probabilities.max())
        if best > self.best:
            self.best, self.picture = best, moment.picture

    def join(self, other):
        """Take in the one before or behind, as if the same were there."""
        self.start_s, self.end_s = min(self.start_s, other.start_s), max(self.end_s, other.end_s)
        self.totals += other.totals
        self.lasts, self.unknown_s = self.lasts + other.lasts, self.unknown_s + other.unknown_s
        if other.there == self.there and other.best > self.best:
            self.best, self.picture = other.best, other.picture
        return self

    def rename(self):
        """Let that be there which is seen most in it."""
        self.there = len(self.totals) if 2 * self.unknown_s > self.lasts else int(self.totals.argmax())
        return self

    def segment(self):
        unknown = self.there == len(self.totals)
        number = int(self.totals.argmax()) if unknown else self.there
        confidence = float(self.totals[number] / self.lasts)
        return Segment(self.start_s, self.end_s, number, confidence, unknown, self.picture)
