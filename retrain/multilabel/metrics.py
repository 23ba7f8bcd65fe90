"""How good guesses of several labels a picture are.  Arrays in, numbers out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain.metrics import class_scores, expected_calibration_error, proportion, wilson_interval

INTERVALS = (
    "95 % intervals: Wilson's for shares and F1; for average precision with as many pictures as have the label (Boyd "
    "and others 2013); means of labels by MOVER"
)


@dataclass(frozen=True)
class JudgedLabels:
    """Pictures judged by a model that has not learned them."""

    paths: list[Path]
    truth: np.ndarray  # bool (n, C)
    probabilities: np.ndarray  # float32 (n, C), calibrated
    told: np.ndarray  # bool (n, C): at or above the threshold
    tested: np.ndarray  # bool (n,): kept back from training, else judged out of fold by cross-validation


def summarize(probabilities, told, truth, classes):
    """All that is to be said of guesses of several labels whose truth is known, for JSON.

    probabilities: float32 (n, C), calibrated.  told, truth: bool (n, C).  classes: C names.  The accuracy is that of
    subsets: all labels of a picture right and none missed.  Each score has its 95 % interval beside it; one that is
    undefined is None.  Covered are the pictures with any label told.
    """
    right, covered = told == truth, told.any(axis=1)
    per_class, together = per_class_scores(probabilities, told, truth, classes), design_effect(~right)
    return {
        **mean("mean_average_precision", per_class.values(), "average_precision", together),
        **mean("macro_f1", per_class.values(), "f1", together),
        **proportion("accuracy", right.all(axis=1)),
        **proportion("coverage", covered),
        **proportion("accuracy_on_covered", right[covered].all(axis=1)),
        "ece": calibration_error(probabilities, truth),
        "per_class": per_class,
        "intervals": INTERVALS,
    }


def per_class_scores(probabilities, told, truth, classes):
    """{name: {average_precision, precision, recall, f1, their intervals, support}}."""
    scores = {}
    for number, name in enumerate(classes):
        chosen, own = told[:, number], truth[:, number]
        precision = average_precision(probabilities[:, number], own)
        scores[name] = {
            "average_precision": precision,
            "average_precision_interval": _wilson(precision, own.sum()),
            **class_scores(int((chosen & own).sum()), int(chosen.sum()), int(own.sum())),
        }
    return scores


def average_precision(scores, truth):
    """Mean of the precisions at which each more of the true ones is found; None without any.

    scores: float (n,).  truth: bool (n,).  Equal scores come in together, nothing is interpolated.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.cumsum(truth[order])[ends]
    return float(np.diff(hits, prepend=0) @ (hits / (ends + 1)) / hits[-1]) if truth.any() else None


def calibration_error(probabilities, truth):
    """Expected calibration error of the decisions, one a picture and label: how sure each is of its side."""
    sides = np.stack([1 - probabilities, probabilities], axis=-1).reshape(-1, 2)
    return expected_calibration_error(sides, truth.ravel().astype(int)) if len(sides) else None


def design_effect(wrong):
    """How much more the mistakes of a picture vary in sum than those of independent labels would; 1 or more.

    wrong: bool (n, C).
    """
    apart = wrong.var(axis=0).sum() if len(wrong) else 0
    return max(1.0, float(wrong.sum(axis=1).var() / apart)) if apart else 1.0


def mean(name, rows, key, together):
    """{name: mean of a score over the labels where it is defined, name_interval}.

    From the intervals of the labels by MOVER (Zou & Donner 2008, doi:10.1002/sim.3095), widened by the design effect:
    labels of one picture go wrong together.
    """
    defined = [(row[key], *row[f"{key}_interval"]) for row in rows if row[key] is not None]
    if not defined:
        return {name: None, f"{name}_interval": [0.0, 1.0]}
    values, low, high = np.array(defined).T
    value, below, above = values.mean(), np.sum((values - low) ** 2), np.sum((high - values) ** 2)
    low, high = value - (together * below) ** 0.5 / len(values), value + (together * above) ** 0.5 / len(values)
    return {name: float(value), f"{name}_interval": [max(0.0, float(low)), min(1.0, float(high))]}


def _wilson(value, count):
    return [0.0, 1.0] if value is None else list(wilson_interval(value * count, count))
