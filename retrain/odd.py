"""Which pictures do not belong with the others?  Arrays in, numbers out.

Without a label nothing is learned and nobody says what the pictures show: they are compared with one another.  Square
roots of embeddings enter (`retrain.unknown.features`), less most of what those of all sorts of pictures have in common,
so that pictures of different things lie at right angles.  `python -m benchmarks odd` compares other ways.

With a label, each picture is judged for itself.
"""

import math

import numpy as np

from retrain.head import normalize
from retrain.unknown import features

FEWEST = 3  # pictures; of two, neither is the odd one
CENTRED = 0.75  # share of the generic mean that is taken away
# An odd one of six pictures lies farther from the others than this and a share of the distance at which these lie from
# one another, or where they are much alike, by a gap.  Chosen on other photos than `python -m benchmarks odd` reports.
LIMIT, LOOSENESS, GAP = 0.71, 0.25, 0.35
GROWTH = 0.028  # of these, with each e-fold of pictures: among many, one is always strange
FAMILIAR = 0.1  # share of known pictures; one stranger than all but these loses belief in proportion
NEIGHBOURS = 5
STRANGE = 0.05  # share of known pictures; what is stranger than all but these is not of their kind
BELIEVED = 0.1  # below this belief a picture is not what the label says


def place(parts, means):
    """Where pictures lie among one another: rows float32 (n, sum of D), of length 1.

    parts: embeddings float32 (n, D) of each backbone.  means: float32 (D,) of each, the mean of `features` of all sorts
    of pictures.
    """
    return normalize([features(part) - CENTRED * mean for part, mean in zip(parts, means, strict=True)])


def find_odd(rows):
    """The rows that stand out from the others, one after the other: always fewer than half.

    rows: as `place` gives them.  Returns positions (the oddest first, none where none stands out) and float32 (n,), the
    mean cosine distance of each to those that belong together.
    """
    distances = 1 - rows @ rows.T
    np.fill_diagonal(distances, 0)
    odd: list[int] = []
    left = list(range(len(rows)))
    while 2 * (len(odd) + 1) < len(rows) and len(left) >= FEWEST:
        scores = distances[np.ix_(left, left)].sum(axis=1) / (len(left) - 1)
        oddest = int(scores.argmax())
        if stands_out(scores) <= 0:
            break
        odd.append(left.pop(oddest))
    others = len(left) - np.isin(np.arange(len(rows)), left)
    return odd, distances[:, left].sum(axis=1) / np.maximum(others, 1)


def stands_out(scores):
    """By how much the highest of leave-one-out scores (n,) passes what one of them reaches where all belong together.

    n is at least FEWEST.  In nine of ten sets of flowers of one kind it is below 0.
    """
    highest = scores.max()
    rest = (scores.sum() - highest) / (len(scores) - 1)
    return float(highest - min(LIMIT + LOOSENESS * rest, GAP + rest) - GROWTH * math.log(len(scores) / 6))


def doubts(confidences, known_scores, limits):
    """How doubtful it is that each picture shows a label, float32 (n,) from 0 to 1; above 1 - BELIEVED it does not.

    confidences: calibrated, of that label (n,).  known_scores: how known each picture is (n,), None where nobody can
    tell.  limits: sorted scores of pictures known for sure (m,).
    """
    if known_scores is None or not len(limits):
        return 1 - confidences
    stranger = (np.searchsorted(limits, known_scores, "right") + 1) / (len(limits) + 1)
    return 1 - confidences * np.minimum(1, stranger / FAMILIAR).astype(np.float32)


def strangeness(rows, known):
    """How strange pictures are beside known ones of one kind, float32 (n,) from 0 to 1; above 1 - STRANGE they are odd.

    rows (n, D), known (m, D): as `place` gives them, m at least 2.  It is the share of the known that lie nearer to
    the others of their kind: a conformal p-value, by leave one out, taken from 1.
    """
    among = 1 - known @ known.T
    np.fill_diagonal(among, np.inf)
    count = min(NEIGHBOURS, len(known) - 1)
    usual, asked = (np.sort(part, axis=1)[:, :count].mean(axis=1) for part in (among, 1 - rows @ known.T))
    farther = len(known) - np.searchsorted(np.sort(usual), asked, "left")
    return (1 - (farther + 1) / (len(known) + 1)).astype(np.float32)


def margin(scores, odd):
    """How far the odd ones are from the others in score, or where there are none, the highest from the second.

    scores: (n,).  odd: positions.  None where there is nothing to compare with.
    """
    chosen = np.isin(np.arange(len(scores)), odd if len(odd) else scores.argmax())
    return None if chosen.all() else float(scores[chosen].min() - scores[~chosen].max())
