"""Pictures that look like another class than their folder's, to a head that has not seen them.

Confident learning (Northcutt et al. 2021, arXiv:1911.00068) on out-of-fold predictions.  Strength and method are those
with the best precision at a recall of 80 % where a tenth of the labels was made wrong (`python -m benchmarks labels`).
"""

import warnings

import numpy as np

from retrain.calibrate import fit_temperature
from retrain.checks import Suspect
from retrain.head import fit_head, make_folds
from retrain.metrics import softmax

C = 1.0  # far below that of training: a head must not learn the wrong labels by heart
METHOD = "low_self_confidence"


def find(evidence):
    rows, probabilities = predict(evidence.embeddings, evidence.labels, evidence.groups, len(evidence.classes))
    for number in suspects(evidence.labels[rows], probabilities):
        row, chances = rows[number], probabilities[number]
        label, guess = evidence.labels[row], int(chances.argmax())
        yield Suspect(
            [evidence.paths[row]],
            float(1 - chances[label]),
            f"looks like {evidence.classes[guess]} ({100 * chances[guess]:.0f} %), not {evidence.classes[label]} "
            f"({100 * chances[label]:.0f} %)",
        )


def predict(embeddings, labels, groups, classes):
    """Calibrated probabilities of each picture by a head that learned from neither it nor its copies.

    Returns rows int (m,), without those of classes that have one group only, and float32 (m, classes).
    """
    # A group counts under its first picture's label: then all of it is in one fold, and each is predicted.
    first: dict[bytes, int] = {}
    owners = np.array([first.setdefault(group, label) for group, label in zip(groups, labels, strict=True)])
    folds = make_folds(owners, groups)
    logits = np.zeros((len(labels), classes), np.float32)
    for fold in range(folds.max(initial=-1) + 1):
        logits[folds == fold] = fit_head(embeddings[folds != fold], labels[folds != fold], classes, C).logits(
            embeddings[folds == fold]
        )
    rows = np.flatnonzero(folds >= 0)
    if not len(rows):
        return rows, logits[rows]
    return rows, softmax(logits[rows] / fit_temperature(logits[rows], labels[rows]))


def suspects(labels, probabilities):
    """Positions of the labels that are likely wrong."""
    from cleanlab.filter import find_label_issues

    present = np.unique(labels)
    if len(present) < 2:
        return np.empty(0, int)
    given, probabilities = np.searchsorted(present, labels), probabilities[:, present]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab's own, of its libraries
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        wrong = find_label_issues(given, probabilities, filter_by=METHOD, n_jobs=1)
    return np.flatnonzero(wrong & (probabilities.argmax(axis=1) != given))
