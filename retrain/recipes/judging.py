"""Judge: what a model just trained is worth, on pictures that it has not learned."""

import logging
from collections import Counter

import numpy as np

from retrain.calibrate import pictures_needed
from retrain.classifier import Classifier
from retrain.images import ImageError, decode, read
from retrain.learning_curve import learning_curve
from retrain.metrics import (
    Judged,
    confusion_matrix,
    expected_calibration_error,
    most_confused,
    per_class_scores,
    proportion,
    reliability,
    softmax,
    summarize,
    summarize_unknown,
)
from retrain.model import learned_marks
from retrain.parallel import ordered_map
from retrain.report import Evidence, advise
from retrain.shortcut import check_shortcut, choose_sample

log = logging.getLogger("retrain")


def judge(prepared, fitted, options):
    """What `train` tells of a model, and the Evidence for its report.

    prepared: Prepared.  fitted: Fitted.  The accuracy is that of the pictures kept back or, without any, that of all
    others by cross-validation; the scores of each class are of all pictures.
    """
    model = fitted.model
    judged, logits = _judge(prepared.dataset, fitted)
    headline = judged.tested if judged.tested.any() else ~judged.tested
    measures = summarize(judged.probabilities[headline], judged.truth[headline], model.classes)
    matrix = confusion_matrix(judged.truth, judged.probabilities.argmax(axis=1), len(model.classes))
    curve, shortcut = _examine(fitted, judged, options) if options.report else (None, None)
    counts = Counter(model.classes[label] for label in prepared.dataset.labels)
    told = {
        "accuracy": measures["accuracy"],
        "accuracy_interval": measures["accuracy_interval"],
        "accuracy_from": "test" if judged.tested.any() else _source(fitted),
        "test_images": int(judged.tested.sum()),
        "judged_images": len(judged.truth),
        "per_class": per_class_scores(matrix, model.classes),
        "confusion": matrix.tolist(),
        "most_confused": most_confused(matrix, model.classes),
        "learning_curve": curve,
        "calibration": _calibration(model, judged, logits),
        "unknown": _unknown(fitted, prepared.unknown),
        "shortcut": shortcut,
        "advice": advise(model.classes, counts, matrix, curve, shortcut),
    }
    before = reliability(softmax(logits[headline]), judged.truth[headline])
    return told, Evidence(judged, measures, [], curve, shortcut, options.model_dir, before)


def _judge(dataset, fitted):
    """Judged: the pictures kept back, by the model, then those held out from what judges them; and their logits."""
    rows = np.concatenate([fitted.tested, fitted.learned[fitted.held_out]]).astype(int)
    logits = np.concatenate([fitted.model.head.logits(fitted.kept_back), fitted.logits])
    probabilities = softmax(logits / np.float32(fitted.model.temperature))
    tested = np.arange(len(rows)) < len(fitted.tested)
    return Judged([dataset.paths[row] for row in rows], np.array(dataset.labels)[rows], probabilities, tested), logits


def _source(fitted):
    return "cross-validation" if fitted.held_out is fitted.search.rows else "validation"


def _examine(fitted, judged, options):
    """What more pictures would bring, and whether the model looks at the background."""
    search, sample = fitted.search, fitted.search.sample
    curve = learning_curve(
        fitted.embeddings[sample], fitted.labels[sample], search.folds, len(fitted.model.classes), search.C,
        options.balance == "weight", search.logits,
    )  # fmt: skip
    rows = choose_sample(judged.truth, judged.probabilities.argmax(axis=1) == judged.truth)
    images = dict(zip(rows, ordered_map(lambda row: _decoded(judged.paths[row]), rows), strict=True))
    rows = [row for row in rows if images[row]]
    shortcut = check_shortcut(fitted.model, [images[row] for row in rows], judged.truth[rows])
    return curve, shortcut | {"examples": [rows[number] for number in shortcut["examples"]]}


def _decoded(path):
    try:
        return decode(read(path))
    except ImageError:  # gone since it was embedded
        return None


def _calibration(model, judged, logits):
    """Calibration error of all judged pictures, before and after scaling by the temperature."""
    before, after = softmax(logits), judged.probabilities
    errors = [expected_calibration_error(each, judged.truth) if len(logits) else None for each in (before, after)]
    return {"temperature": model.temperature, "ece_before": errors[0], "ece": errors[1]}


def _unknown(fitted, unknown):
    """By which rate the unknown is told and, where `_unknown/` holds pictures, how well."""
    classifier, rate = Classifier(fitted.model), fitted.model.reject_rate
    known = np.concatenate([fitted.scores, classifier.known_scores(fitted.kept_back)]) if len(fitted.scores) else None
    told = {"reject_rate": rate, "calibrated_on": len(fitted.model.limits.scores), "needed": pictures_needed(rate)}
    return told | (score_unknown(classifier, known, unknown) or {"images": 0})


def score_unknown(classifier, known_scores, unknown):
    """How well pictures of `_unknown/` are told from known ones; None where there are none.

    known_scores: float (n,), None without a detector.  unknown: float32 (m, D), normalized.
    """
    if not len(unknown):
        return None
    told = dict.fromkeys(("auroc", "auroc_interval", "fpr95", "fpr95_interval"))
    if known_scores is not None:
        told = summarize_unknown(known_scores, classifier.known_scores(unknown))
    rejected = classifier.unknown(unknown, classifier.probabilities_of(unknown))
    return {"images": len(unknown), **told, **proportion("rejected", rejected)}


def count_learned(digests, learned):
    """How many pictures a model has learned, and a warning where there are any.  learned: its `learned_marks`."""
    count = int(np.isin(learned_marks(digests), learned).sum())
    if count:
        log.warning("%d of %d pictures were learned by this model: the accuracy is flattered.", count, len(digests))
    return count


def leave_out_foreign(names, classes):
    """Say which names of a folder are no class of the model's."""
    foreign = sorted(set(names) - set(classes))
    if foreign:
        log.warning("the model does not know %s: left out.", ", ".join(foreign))
