"""Multi-label: pictures that may have several labels each, learned, judged and measured."""

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np

from retrain.classifier import Classifier
from retrain.dataset import TESTING
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.metrics import proportion, sigmoid
from retrain.model import Model, learned_marks
from retrain.multilabel.data import find_labelled, merge_same
from retrain.multilabel.head import (
    LabelSearch,
    calibrate,
    choose_thresholds,
    cross_calibrate,
    finish,
    fit_heads,
    mix,
    search_C,
)
from retrain.multilabel.metrics import JudgedLabels, calibration_error, per_class_scores, summarize
from retrain.recipes.judging import count_learned, leave_out_foreign
from retrain.report import LabelEvidence, advise_on_labels, write_multilabel
from retrain.scale.places import require_local
from retrain.scale.sets import embed_set

log = logging.getLogger("retrain")


@dataclass(frozen=True)
class FittedLabels:
    """A model, and what it was fitted on: rows of a Prepared, sorted by content, and what tells how good it is."""

    model: Model
    search: LabelSearch
    learned: np.ndarray  # int (n,): rows
    tested: np.ndarray  # int (m,): rows
    kept_back: np.ndarray  # float32 (m, D), normalized


def fit_multilabel(prepared, options):
    """FittedLabels: a head of a yes or no a label, calibrated, with a threshold for each.  options: TrainOptions."""
    dataset, tested = prepared.dataset, prepared.parts == TESTING
    # By content, because the order of rows shows in the last bits of the weights, and names must not.
    learned = np.array(sorted(np.flatnonzero(~tested), key=lambda row: prepared.digests[row]))
    embeddings, kept_back = prepared.part_embeddings(learned, np.flatnonzero(tested))
    targets, groups = dataset.targets[learned], [prepared.groups[row] for row in learned]
    weighted = options.balance == "weight"
    search = search_C(embeddings, targets, groups, options.seed, weighted)
    slope, shift, thresholds = 1.0, 0.0, np.full(targets.shape[1], 0.5, np.float32)
    if len(search.rows):
        slope, shift = calibrate(search.logits, search.targets, weighted)
        thresholds = choose_thresholds(sigmoid(slope * search.logits + shift), search.targets)
    embeddings, targets, _ = mix(embeddings, targets, np.zeros(len(learned), int), options.seed)
    if len(targets) > len(learned):
        log.info("Few pictures have several labels: %d mixtures of two are learned, too.", len(targets) - len(learned))
    head = next(fit_heads(embeddings, targets, [search.C], weighted))
    model = Model(dataset.classes, prepared.backbones, finish(head, slope, shift, thresholds))
    model.learned = learned_marks([prepared.digests[row] for row in learned])
    return FittedLabels(model, search, learned, np.flatnonzero(tested), kept_back)


def judge_multilabel(prepared, fitted, options):
    """What `train` tells of a model, and the LabelEvidence for its report.

    The headline is of the pictures kept back or, without any, of all others by cross-validation; the scores of each
    label are of all pictures.  Nothing that is told of a picture was chosen by it, its thresholds included.
    """
    model, dataset = fitted.model, prepared.dataset
    judged = _judge(dataset, fitted, options)
    headline = judged.tested if judged.tested.any() else ~judged.tested
    measures = summarize(judged.probabilities[headline], judged.told[headline], judged.truth[headline], model.classes)
    scores = per_class_scores(judged.probabilities, judged.told, judged.truth, model.classes)
    scores = _with_thresholds(scores, model.head.thresholds)
    counts = Counter(dict(zip(model.classes, dataset.counts().tolist(), strict=True)))
    told = {
        "multi_label": True,
        **{key: value for key, value in measures.items() if key not in ("per_class", "intervals")},
        "accuracy_from": "test" if judged.tested.any() else "cross-validation",
        "test_images": int(judged.tested.sum()),
        "judged_images": len(judged.truth),
        "labels_per_image": float(dataset.targets.sum(axis=1).mean()),
        "per_class": scores,
        "confusion": None,
        "most_confused": [],
        "learning_curve": None,
        "calibration": {"temperature": 1.0, **_calibration(fitted, judged)},
        "unknown": _unknown(Classifier(model), prepared.unknown),
        "shortcut": None,
        "advice": advise_on_labels(counts, float((dataset.targets.sum(axis=1) > 1).mean())),
    }
    return told, LabelEvidence(
        judged, measures, scores, len(dataset), model_dir=options.model_dir, unknown=told["unknown"],
        advice=told["advice"],
    )  # fmt: skip


def _judge(dataset, fitted, options):
    """JudgedLabels: the pictures kept back, by the model, then the others, by heads and limits of the other folds."""
    classifier, search = Classifier(fitted.model), fitted.search
    probabilities = classifier.probabilities_of(fitted.kept_back)
    told = classifier.labels_of(probabilities)
    if len(search.rows):
        crossed = cross_calibrate(search, options.balance == "weight")
        probabilities, told = (np.concatenate(pair) for pair in zip((probabilities, told), crossed, strict=True))
    rows = np.concatenate([fitted.tested, fitted.learned[search.rows]]).astype(int)
    tested = np.arange(len(rows)) < len(fitted.tested)
    return JudgedLabels([dataset.paths[row] for row in rows], dataset.targets[rows], probabilities, told, tested)


def _calibration(fitted, judged):
    """Calibration error of the pictures judged by cross-validation, before and after."""
    crossed, truth = ~judged.tested, judged.truth[~judged.tested]
    before = calibration_error(sigmoid(fitted.search.logits[: len(truth)]), truth)
    return {"ece_before": before, "ece": calibration_error(judged.probabilities[crossed], truth)}


def _with_thresholds(scores, thresholds):
    return {
        name: {"threshold": threshold, **row}
        for (name, row), threshold in zip(scores.items(), thresholds.tolist(), strict=True)
    }


def _unknown(classifier, embeddings):
    """How many pictures of `_unknown/` get no label; no rate was asked for."""
    told = {"reject_rate": 0.0, "calibrated_on": 0, "needed": 0, "images": len(embeddings)}
    return told | (score_strangers(classifier, embeddings) or {})


def score_strangers(classifier, embeddings):
    """The pictures of `_unknown/` that get no label, and None where there are none.  float32 (m, D), normalized."""
    if not len(embeddings):
        return None
    rejected = classifier.unknown(embeddings, classifier.probabilities_of(embeddings))
    undefined = dict.fromkeys(("auroc", "auroc_interval", "fpr95", "fpr95_interval"))
    return {"images": len(embeddings), **undefined, **proportion("rejected", rejected)}


def evaluate_multilabel(data, classifier, options, store_path):
    """What `evaluate` returns of a model that tells several labels, but for the seconds and the model's folder.

    data: a folder with `labels.csv`, or with class folders, in several of which a picture may lie.
    """
    require_local(data)
    model, classes = classifier.model, classifier.labels
    dataset = _find_labelled(data, classes, options.only)
    known = embed_set(dataset.paths, model.backbones, options, store_path)
    strangers = embed_set(dataset.unknown, model.backbones, options, store_path)
    if not known.kept:
        raise RetrainError(
            f"no pictures under {data}: {len(dataset)} files looked at, all refused.", "Check the folder."
        )
    rows, truth = merge_same(dataset.take(known.kept), known.digests)
    embeddings = normalize(known.embeddings)[rows]
    probabilities = classifier.probabilities_of(embeddings)
    told = classifier.labels_of(probabilities)
    measures = summarize(probabilities, told, truth, classes)
    measures["per_class"] = _with_thresholds(measures["per_class"], classifier.thresholds)
    skipped = dataset.refused + known.skipped + strangers.skipped
    result = {
        "multi_label": True,
        **measures,
        "confusion": None,
        "most_confused": [],
        **proportion("known_rejected", ~told.any(axis=1)),
        "unknown": score_strangers(classifier, normalize(strangers.embeddings)),
        "candidates": None,
        "learned": count_learned([known.digests[row] for row in rows], model.learned),
        "test_images": len(rows),
        "classes": classes,
        "images": len(rows),
        "skipped": [{"path": str(path), "reason": str(error)} for path, error in skipped],
        "threshold": options.threshold,
    }
    if options.html:
        paths = [dataset.paths[known.kept[row]] for row in rows]
        judged = JudgedLabels(paths, truth, probabilities, told, np.full(len(rows), True))
        evidence = LabelEvidence(
            judged, measures, measures["per_class"], len(rows), result["skipped"], options.model_dir, data,
            result["unknown"], result["learned"],
        )  # fmt: skip
        write_multilabel(model, evidence, options.html)
    return result


def _find_labelled(data, classes, only):
    """Dataset of the pictures to be tested, with the model's classes; those of foreign labels alone are left out."""
    dataset = find_labelled(data, only, multi_label=True)
    leave_out_foreign(dataset.classes, classes)
    targets = np.zeros((len(dataset), len(classes)), bool)
    for number, name in enumerate(dataset.classes):
        if name in classes:
            targets[:, classes.index(name)] = dataset.targets[:, number]
    wanted = targets.any(axis=1) | ~dataset.targets.any(axis=1)
    if dataset.parts is not None:
        wanted &= np.array(dataset.parts) == TESTING
    if not targets[wanted].any():
        raise RetrainError(f"{data} holds no pictures of the model's labels.", f"It knows {', '.join(classes)}.")
    dataset.classes, dataset.targets = classes, targets
    return dataset.take(np.flatnonzero(wanted))
