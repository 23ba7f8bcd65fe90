"""Would more pictures help, and of which class?  Arrays in, numbers out."""

from statistics import NormalDist

import numpy as np

from retrain.head import few_threads, fit_path
from retrain.metrics import wilson_interval

# Of the pictures learned: parts of their random order, on several of which the accuracy is averaged.
SHARES: dict[float, list[tuple[float, float]]] = {
    0.125: [(0, 0.125)],
    0.25: [(0, 0.25), (0.25, 0.5)],  # what is told of the classes rests on it: half differs too little from all
    0.5: [(0, 0.5)],
    1.0: [(0, 1)],
}
QUARTER, HALF, ALL = 1, 2, 3  # positions in SHARES
MOST_ROWS = 5_000  # above this a sample tells as much
MOST_WORK = 4e8  # rows x dimensions x classes of all folds, some seconds; above this fewer rows, then fewer folds
ROWS_A_CLASS = 10  # fewer tell nothing
DOUBT = 0.05  # how often a class is named though none differs


def learning_curve(embeddings, labels, folds, classes, C, weighted=True, logits=None):
    """Accuracy against the number of pictures learned, each picture judged by a head that has not learned it.

    embeddings: float32 (n, D), normalized.  labels: int (n,) below `classes`.  folds: int (n,), of `make_folds`, so
    that copies of a picture stay together.  C, weighted: of the head, see `fit_path`.
    logits: float32 (m, classes), out of fold, of the rows in a fold, by a head that learned all other folds; fitted
    here where they are not given.

    Returns None where there are too few pictures to judge or too many classes to do so in seconds.  Else, for JSON:
    points: [{images, accuracy, interval}], with SHARES of the pictures, the interval 95 % (Wilson);
    gain: {gain, interval}: accuracy with all less accuracy with a quarter of the pictures, 95 %;
    gains: the same of the recall of each class, None for one without judged pictures;
    helps_most: [{class, gain, interval, confidence}]: the classes, by number, that gained more than the others, beyond
    chance, and gained still when half became all; best first.
    """
    most = min(MOST_ROWS, MOST_WORK / (embeddings.shape[1] * classes))
    rows = _sample(labels, folds, most)
    if not (folds >= 0).any() or len(rows) < min(ROWS_A_CLASS * classes, len(labels)):
        return None
    work = len(rows) * embeddings.shape[1] * classes
    used = int(np.clip(MOST_WORK // work, 1, folds.max() + 1))
    judged = rows[(folds[rows] >= 0) & (folds[rows] < used)]
    places = np.searchsorted(np.flatnonzero(folds >= 0), judged)  # of their logits
    known = logits is not None and len(rows) == len(labels)

    def judge(part, scored):
        head = next(fit_path(embeddings[part], labels[part], classes, [C], weighted=weighted))
        return head.logits(embeddings[judged[scored]]).argmax(axis=1)

    images, correct = np.zeros(len(SHARES)), np.empty((len(SHARES), len(judged)))
    with few_threads(work):
        for fold in range(used):
            scored = folds[judged] == fold
            for number, parts in enumerate(_parts(rows[folds[rows] != fold], labels, fold)):
                whole = known and number == ALL
                guesses = [logits[places[scored]].argmax(axis=1) if whole else judge(part, scored) for part in parts]
                correct[number, scored] = np.mean(guesses == labels[judged[scored]], axis=0)
                images[number] += len(parts[0]) / used
    return _describe(images, correct, labels[judged], folds[judged], classes)


def _sample(labels, folds, most):
    """Rows: all, or about so many, every class in every fold in its share."""
    rows = np.random.default_rng(0).permutation(len(labels))
    cells = labels[rows] * (folds.max(initial=0) + 2) + folds[rows] + 1
    return np.sort(rows[_places(cells) < most / max(len(labels), 1)])


def _places(labels):
    """Where each row stands among those of its class: from 0, the first, to below 1."""
    order, counts = np.argsort(labels, kind="stable"), np.bincount(labels)
    places, ends = np.empty(len(labels)), np.cumsum(counts)
    places[order] = (np.arange(len(labels)) - np.repeat(ends - counts, counts)) / np.repeat(counts, counts)
    return places


def _parts(rows, labels, seed):
    """Yield for each of SHARES the rows of its parts, every class in its share and in the first with a row at least."""
    rows = np.random.default_rng(seed).permutation(rows)
    places = _places(labels[rows])
    for spans in SHARES.values():
        parts = [rows[(places >= low) & (places < high)] for low, high in spans]
        yield [part for part in parts if len(np.unique(labels[part])) == len(np.unique(labels[rows]))]


def _describe(images, correct, labels, folds, classes):
    """The result.  correct: float (shares, n), 0-1.  labels, folds: int (n,)."""
    gained, late = correct[ALL] - correct[QUARTER], correct[ALL] - correct[HALF]
    members = [labels == label for label in range(classes)]
    gains = [_gain(gained[rows]) if rows.any() else None for rows in members]
    doubts = [_doubt(gained, rows, folds) * classes for rows in members]  # Bonferroni
    outstanding = [
        {"class": label, **_gain(gained[members[label]]), "confidence": 1 - doubt}
        for label, doubt in enumerate(doubts)
        if doubt < DOUBT and late[members[label]].sum() > 0
    ]
    return {
        "points": [_point(count, right) for count, right in zip(images, correct, strict=True)],
        "gain": _gain(gained),
        "gains": gains,
        "helps_most": sorted(outstanding, key=lambda entry: -entry["gain"]),
    }


def _point(images, right):
    return {
        "images": round(images),
        "accuracy": float(right.mean()),
        "interval": list(wilson_interval(float(right.sum()), len(right))),
    }


def _gain(changes):
    gain, spread = float(changes.mean()), 1.96 * _variance(changes) ** 0.5
    return {"gain": gain, "interval": [max(-1.0, gain - spread), min(1.0, gain + spread)]}


def _doubt(gained, members, folds):
    """Probability of such a lead of these pictures over the others in gain, or of such a gain, by chance alone."""
    ours, others = gained[members], gained[~members]
    if not len(ours) or not len(others):
        return 1.0
    # Pictures in one fold share the draw of what was learned, so that their gains are not independent.
    halves = [(gained[members & (folds == fold)], gained[~members & (folds == fold)]) for fold in np.unique(folds)]
    leads = [one.mean() - other.mean() for one, other in halves if len(one) and len(other)]
    between = np.var(leads, ddof=1) / len(leads) if len(leads) > 1 else 0.0
    spread = max(_variance(ours) + _variance(others), between) ** 0.5
    lead, gain = ours.mean() - others.mean(), ours.mean()
    return 1 - NormalDist().cdf(min(lead / spread, gain / _variance(ours) ** 0.5))


def _variance(changes):
    """Variance of a mean of changes, as if one more picture had changed: no certainty comes from a few."""
    count = len(changes)
    return float((np.square(changes).sum() + 1) / (count + 1) - (changes.sum() / (count + 1)) ** 2) / count
