"""The head: multinomial logistic regression on embeddings.  Arrays in, arrays out.

Embeddings enter scaled to length 1 (`normalize`).  The fit centres and scales them further to condition the
problem, and folds both into the weights, so that a saved head is one matrix and one vector.
"""

import importlib.util
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from retrain.dataset import labels_of_groups
from retrain.errors import RetrainError
from retrain.metrics import log_loss

C_GRID = (3.0, 30.0, 300.0)  # inverse regularisation strengths; the loss is flat between them
DEFAULT_C = 30.0  # where there is too little data to choose
SEARCH_ROWS = 20_000  # above this C is searched on a stratified sample
SAMPLE_ROWS = 5_000
# Of a gradient's largest number: at ten times this a warm start stops where it began, and every C looks alike; and as
# each class has its share of the pictures, of many classes none would begin.
TOLERANCE, TOLERANCE_OF_ALL = 1e-4, 5e-3
MAX_ITERATIONS = 1_000
SINGLE_THREAD_WORK = 2e8  # rows x dimensions x classes; below this more BLAS threads only get in each other's way


@dataclass(frozen=True)
class Head:
    """weights: float32 (C, D).  intercept: float32 (C,).

    thresholds: float32 (C,), of the confidences from which labels are told, where a picture may have several (a sigmoid
    head); None where it has one (softmax).
    """

    weights: np.ndarray
    intercept: np.ndarray
    thresholds: np.ndarray | None = None

    def logits(self, embeddings):
        """embeddings: float32 (n, D), normalized.  Returns float32 (n, C)."""
        return embeddings @ self.weights.T + self.intercept

    @property
    def kind(self):
        return "softmax" if self.thresholds is None else "sigmoid"


@dataclass(frozen=True)
class Search:
    """Outcome of the choice of C.  sample: positions used, with a fold each; rows: those of them that were scored;
    logits: out-of-fold (len(rows), C)."""

    C: float
    rows: np.ndarray
    logits: np.ndarray
    sample: np.ndarray
    folds: np.ndarray


def normalize(parts, out=None):
    """Embeddings of one or several backbones, each scaled to length 1, side by side, together of length 1 again.

    parts: arrays float32 (n, D_i).  out: where to write, which may be where they lie side by side already.
    Returns float32 (n, sum of D_i).
    """
    scale = np.float32(len(parts) ** 0.5)
    embeddings = out
    if out is None:
        embeddings = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    start = 0
    for part in parts:
        lengths = np.maximum(np.sqrt(np.einsum("nd,nd->n", part, part)), 1e-12)[:, None]
        np.divide(part, lengths * scale, out=embeddings[:, start : start + part.shape[1]])
        start += part.shape[1]
    return embeddings


def search_C(embeddings, labels, hashes, classes, seed=0, weighted=True):
    """Choose C by the log-loss of out-of-fold predictions.

    embeddings: float32 (n, D), normalized.  labels: int (n,) below `classes`.  hashes: bytes of each row's group,
    equal ones stay in one fold.  seed: another one deals other folds.  weighted: see `fit_path`.
    Returns Search; its rows are empty where no class has two groups.
    """
    rows = np.arange(len(labels))
    if len(labels) > SEARCH_ROWS:
        rows = stratified_sample(labels, hashes)
        embeddings, labels = embeddings[rows], labels[rows]
    folds = make_folds(labels, [hashes[row] for row in rows], seed)
    scored = np.flatnonzero(folds >= 0)
    if not len(scored):
        return Search(DEFAULT_C, scored, np.empty((0, classes), np.float32), rows, folds)
    logits = np.zeros((len(C_GRID), len(labels), classes), np.float32)
    with few_threads(embeddings.size * classes):
        for fold in range(folds.max() + 1):
            training, held_out = folds != fold, folds == fold
            heads = fit_path(embeddings[training], labels[training], classes, C_GRID, weighted=weighted)
            for number, head in enumerate(heads):
                logits[number, held_out] = head.logits(embeddings[held_out])
    losses = [log_loss(candidate[scored], labels[scored]) for candidate in logits]
    best = int(np.argmin(losses))
    return Search(C_GRID[best], rows[scored], logits[best, scored], rows, folds)


def fit_head(embeddings, labels, classes, C, weighted=True):
    """Head fitted on all rows; see `fit_path`."""
    with few_threads(embeddings.size * classes):
        return next(fit_path(embeddings, labels, classes, [C], weighted=weighted))


def require_scikit_learn():
    """Raise RetrainError now, before any work, where only guessing is installed, as in the image retrain:guess."""
    if importlib.util.find_spec("sklearn") is None:
        raise RetrainError(
            "this needs scikit-learn, which is not installed.",
            "The image retrain:full holds it; elsewhere make setup or pip install retrain brings it.",
        )


def fit_path(embeddings, labels, classes, strengths, weighted=True):
    """Yield a Head for each C in turn, each started from the one before.

    Multinomial logistic regression, L-BFGS, deterministic.  A class without rows is never predicted.
    weighted: small classes count as much as large ones.
    """
    from sklearn.linear_model import LogisticRegression

    centre = embeddings.mean(axis=0)
    centred = embeddings - centre
    scale = float(np.sqrt(np.mean(np.einsum("nd,nd->n", centred, centred)))) or 1.0
    centred /= np.float32(scale)
    weight = "balanced" if weighted else None
    tolerance = min(TOLERANCE, TOLERANCE_OF_ALL / classes)
    model = LogisticRegression(class_weight=weight, max_iter=MAX_ITERATIONS, tol=tolerance, warm_start=True)
    for strength in strengths:
        model.set_params(C=strength).fit(centred, labels)
        weights, intercept = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            weights, intercept = np.concatenate([-weights, weights]) / 2, np.concatenate([-intercept, intercept]) / 2
        weights = weights / scale
        full_weights = np.zeros((classes, embeddings.shape[1]), np.float32)
        full_intercept = np.full(classes, -1e4, np.float32)
        full_weights[model.classes_] = weights
        full_intercept[model.classes_] = intercept - weights @ centre
        yield Head(full_weights, full_intercept)


def make_folds(labels, hashes, seed=0, count=None):
    """Fold of each row, classes spread evenly, equal hashes together; -1 for rows that every fold learns from.

    Those are a class's only group, without which the class would be unknown, and groups in two classes at once.
    count: of folds; None: three above 2,000 rows, else five.  Returns int (n,).
    """
    count = count or (5 if len(labels) <= 2_000 else 3)
    owners, groups = labels_of_groups(labels, hashes), defaultdict(list)
    for digest in sorted(owners, key=lambda digest: sha256(b"%d " % seed + digest).digest()):
        if len(owners[digest]) == 1:
            groups[min(owners[digest])].append(digest)
    fold_of = {
        digest: number % count
        for members in groups.values()
        if len(members) > 1
        for number, digest in enumerate(members)
    }
    folds = np.array([fold_of.get(digest, -1) for digest in hashes])
    used = np.unique(folds[folds >= 0])
    return np.where(folds >= 0, np.searchsorted(used, folds), -1)


def stratified_sample(labels, hashes):
    """At most about SAMPLE_ROWS rows, chosen by hash: every class in its share, but at least two of it."""
    if len(labels) <= SAMPLE_ROWS:
        return np.arange(len(labels))
    order = np.array(sorted(range(len(labels)), key=lambda row: hashes[row]))
    picked = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        picked.append(members[: max(2, round(SAMPLE_ROWS * len(members) / len(labels)))])
    return np.sort(np.concatenate(picked))


def few_threads(work):
    """Context in which small products stay on one core.  work: rows x dimensions x classes."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1) if work < SINGLE_THREAD_WORK else nullcontext()
