"""The head for several labels a picture: one yes or no a label, each a logistic regression.  Arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from retrain.head import (
    C_GRID,
    DEFAULT_C,
    SEARCH_ROWS,
    SINGLE_THREAD_WORK,
    Head,
    few_threads,
    fit_path,
    normalize,
    stratified_sample,
)
from retrain.metrics import sigmoid
from retrain.multilabel.data import deal_folds
from retrain.parallel import ordered_map

MIXED = 0.25  # share of the pictures that show several labels; where fewer do, pictures are mixed
TRIES = 4  # pairs drawn for each picture, of which those with a label in common are dropped


@dataclass(frozen=True)
class LabelSearch:
    """Outcome of the choice of C.

    rows: positions of the k pictures that were scored.  logits, targets, folds: out-of-fold float32, bool (m, C) and
    int (m,), first of these, then of the pictures mixed.
    """

    C: float
    rows: np.ndarray
    logits: np.ndarray
    targets: np.ndarray
    folds: np.ndarray


def search_C(embeddings, targets, groups, seed=0, weighted=True):
    """Choose one C for all labels by the log-loss of out-of-fold predictions, in which every label counts the same.

    embeddings: float32 (n, D), normalized.  targets: bool (n, C).  groups: bytes of each row's group.
    weighted: see `fit_path`.  Returns LabelSearch; its rows are empty where no label has two groups.
    """
    rows = np.arange(len(targets))
    if len(rows) > SEARCH_ROWS:
        rows = stratified_sample(_rarest(targets), groups)
        embeddings, targets = embeddings[rows], targets[rows]
    folds = deal_folds(targets, [groups[row] for row in rows], seed)
    rows = rows[folds >= 0]
    embeddings, targets, folds = mix(embeddings, targets, folds, seed)
    scored = folds >= 0
    if not folds.max(initial=-1) > 0:
        return LabelSearch(DEFAULT_C, rows[:0], np.empty((0, targets.shape[1]), np.float32), targets[:0], folds[:0])
    logits = np.empty((len(C_GRID), *targets.shape), np.float32)
    for fold in range(folds.max() + 1):
        learned, held_out = folds != fold, folds == fold
        for number, head in enumerate(fit_heads(embeddings[learned], targets[learned], C_GRID, weighted)):
            logits[number, held_out] = head.logits(embeddings[held_out])
    losses = [_loss(candidate[scored], targets[scored], weighted) for candidate in logits]
    best = int(np.argmin(losses))
    return LabelSearch(C_GRID[best], rows, logits[best, scored], targets[scored], folds[scored])


def mix(embeddings, targets, folds, seed=0):
    """The same with rows added: two pictures of one fold in one, so that MIXED of the pictures have several labels.

    A network's embedding is the mean over the places of a picture, so that of two things side by side is about the mean
    of theirs.  A head that has seen each of them alone takes one for a sign against the other.
    """
    labelled, several = targets.any(axis=1), int((targets.sum(axis=1) > 1).sum())
    wanted = (MIXED * len(targets) - several) / (1 - MIXED) / max(labelled.sum(), 1)  # of each picture with a label
    if wanted <= 0:
        return embeddings, targets, folds
    random, chosen = np.random.default_rng(seed), []
    for fold in np.unique(folds):
        members = np.flatnonzero(labelled & (folds == fold))
        drawn = random.choice(members, (2, TRIES * len(members)))
        apart = ~(targets[drawn[0]] & targets[drawn[1]]).any(axis=1)
        chosen.append(drawn[:, apart][:, : round(wanted * len(members))])
    first, second = np.concatenate(chosen, axis=1)
    mixed = normalize([embeddings[first] + embeddings[second]])
    return (
        np.concatenate([embeddings, mixed]),
        np.concatenate([targets, targets[first] | targets[second]]),
        np.concatenate([folds, folds[first]]),
    )


def fit_heads(embeddings, targets, strengths, weighted=True):
    """A Head for each C, neither calibrated nor with thresholds: of each label against all that lacks it."""

    def fit(label):
        wanted = targets[:, label].astype(int)
        if wanted.min() == wanted.max():  # nothing to tell it from
            return [(np.zeros(embeddings.shape[1], np.float32), _log_odds(wanted))] * len(strengths)
        heads = fit_path(embeddings, wanted, 2, strengths, weighted=weighted)
        return [(head.weights[1] - head.weights[0], head.intercept[1] - head.intercept[0]) for head in heads]

    labels, work = range(targets.shape[1]), embeddings.size * 2
    with few_threads(work):
        fitted = list(ordered_map(fit, labels) if work < SINGLE_THREAD_WORK else map(fit, labels))
    for each in zip(*fitted, strict=True):
        yield Head(np.stack([weights for weights, _ in each]), np.array([shift for _, shift in each], np.float32))


def _log_odds(wanted):
    return float(np.log((wanted.sum() + 0.5) / (len(wanted) - wanted.sum() + 0.5)))


def _rarest(targets):
    """Of each row the label that fewest have; one more for rows without any."""
    counts = np.where(targets, targets.sum(axis=0), np.inf)
    return np.where(targets.any(axis=1), counts.argmin(axis=1), targets.shape[1])


def _loss(logits, targets, weighted):
    """Mean over the labels of the log-loss; weighted: of those that have a label and those that lack it alike."""
    losses = np.logaddexp(0, np.where(targets, -logits, logits))
    counts = np.maximum([targets.sum(axis=0), (~targets).sum(axis=0)], 1)
    weights = np.where(targets, *(0.5 / counts)) if weighted else 1 / len(targets)
    return float((losses * weights).sum() / targets.shape[1])


def calibrate(logits, targets, weighted=True):
    """(slope, shift float32 (C,)): sigmoid(slope * logits + shift) is right as often as it says on held-out data.

    logits: out of fold, float32 (n, C).  targets: bool (n, C).  Platt 1999, with his smoothed targets; one slope serves
    all labels, because a rare one has too few pictures for its own.  A label that none of the rows has is shifted by
    half a picture's odds, which a weighted fit leaves out.
    """
    from scipy.optimize import minimize

    counts = targets.sum(axis=0)
    goal = np.where(targets, (counts + 1) / (counts + 2), 1 / (len(targets) - counts + 2))
    logits = logits.astype(np.float64)

    def loss(parameters):
        slope = np.exp(parameters[0])
        scaled = slope * logits + parameters[1:]
        error = sigmoid(scaled) - goal
        value = np.mean(np.logaddexp(0, scaled) - goal * scaled)
        return value, np.concatenate([[slope * np.mean(error * logits)], error.sum(axis=0) / error.size])

    start = np.zeros(1 + logits.shape[1])
    slope, *shift = minimize(loss, start, jac=True, method="L-BFGS-B").x
    unseen = np.log(0.5 / (len(targets) + 0.5)) if weighted else 0.0
    return float(np.exp(slope)), np.where(counts, shift, unseen).astype(np.float32)


def choose_thresholds(probabilities, targets):
    """For each label the confidence from which it is to be told, float32 (C,), for the largest expected F1.

    It is half of that F1 (Lipton et al. 2014, arXiv:1402.1892).  The F1 that is counted has its maximum where single
    pictures of a rare label happen to stand; the expected one is steadier.
    probabilities: calibrated, of held-out data (n, C).  targets: bool (n, C); a label that no row has gets 0.5.
    """
    falling = -np.sort(-probabilities, axis=0)
    told = np.arange(1, len(falling) + 1)[:, None]
    expected = 2 * np.cumsum(falling, axis=0) / (told + falling.sum(axis=0))
    return np.where(targets.any(axis=0), expected.max(axis=0, initial=0) / 2, 0.5).astype(np.float32)


def finish(head, slope, shift, thresholds):
    """The Head with its calibration folded in, and its thresholds."""
    weights = (slope * head.weights).astype(np.float32)
    return Head(weights, (slope * head.intercept + shift).astype(np.float32), thresholds)


def cross_calibrate(search, weighted=True):
    """(probabilities float32, labels told bool) of a search's rows, each calibrated and decided by the other folds."""
    probabilities, told = np.empty_like(search.logits), np.empty_like(search.targets)
    for fold in range(search.folds.max() + 1):
        others, own = search.folds != fold, search.folds == fold
        slope, shift = calibrate(search.logits[others], search.targets[others], weighted)
        calibrated = sigmoid(slope * search.logits + shift)
        probabilities[own] = calibrated[own]
        told[own] = calibrated[own] >= choose_thresholds(calibrated[others], search.targets[others])
    return probabilities[: len(search.rows)], told[: len(search.rows)]
