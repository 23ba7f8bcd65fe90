"""Evaluate: how good a trained model is on pictures it has not seen."""

import time

import numpy as np

from retrain.classifier import Classifier
from retrain.dataset import TESTING, find_dataset
from retrain.errors import RetrainError
from retrain.face_classifier import FaceClassifier
from retrain.head import normalize
from retrain.metrics import Judged, proportion, reliability, softmax, summarize
from retrain.multilabel.data import labels_files
from retrain.options import EvaluateOptions, default_model_dir
from retrain.recipes.consent import require_consent
from retrain.recipes.judging import count_learned, leave_out_foreign, score_unknown
from retrain.recipes.multilabel import evaluate_multilabel
from retrain.recipes.training import skipped_rows, store_path
from retrain.report import Evidence, write_report
from retrain.scale.places import find_remote_dataset, is_remote, require_local
from retrain.scale.sets import embed_set


def evaluate(data, options=EvaluateOptions()):  # noqa: B008 - frozen
    """Score a model on a folder with one folder a class; of a train/ and test/ layout on test/ alone.

    Returns what `evaluate --json` prints: the scores of `retrain.metrics.summarize`, how many of the pictures the model
    has learned, how many it takes for unknown (and of those in `_unknown/`, if there are any), what candidates it names
    where a coverage is asked for, and the files skipped with their reason.  Of a model that tells several labels, the
    scores are those of `retrain.multilabel.metrics.summarize`.  Raises RetrainError.
    """
    start = time.perf_counter()
    model_dir = options.model_dir or default_model_dir()
    if options.faces:
        require_consent([data], options.i_have_consent, options.engine)
    classifier = (FaceClassifier if options.faces else Classifier).load(model_dir, options)
    if classifier.is_multilabel:
        result = evaluate_multilabel(data, classifier, options, store_path(model_dir))
        return result | {"model_dir": str(model_dir), "seconds": round(time.perf_counter() - start, 3)}
    classes = classifier.labels
    dataset, reader = _find_labelled(data, options)
    paths, labels, strangers = _known_pictures(dataset, data, classes)
    # Of faces nothing is kept that no training has asked for: it could not be forgotten by its label.
    place = None if options.faces else store_path(model_dir)
    known, unknown = (
        embed_set(files, classifier.model.backbones, options, place, reader) for files in (paths, strangers)
    )
    if not known.kept:
        raise RetrainError(f"no pictures under {data}: {len(paths)} files looked at, all refused.", "Check the folder.")
    truth, embeddings = np.array(labels)[known.kept], normalize(known.embeddings)
    probabilities = classifier.probabilities_of(embeddings)
    result = {
        **summarize(probabilities, truth, classes, options.threshold),
        **proportion("known_rejected", classifier.unknown(embeddings, probabilities)),
        "unknown": score_unknown(classifier, classifier.known_scores(embeddings), normalize(unknown.embeddings)),
        "candidates": _score_candidates(classifier.candidates_of(probabilities), truth, options.coverage),
        "learned": count_learned(known.digests, classifier.model.learned),
        "test_images": len(truth),
        "classes": classes,
        "images": len(truth),
        "skipped": skipped_rows(known) + skipped_rows(unknown),
        "threshold": options.threshold,
        "model_dir": str(model_dir),
    }
    if options.html:
        judged = Judged([paths[row] for row in known.kept], truth, probabilities, np.full(len(truth), True))
        _write_page(classifier, judged, embeddings, result, data, options)
    return result | {"seconds": round(time.perf_counter() - start, 3)}


def _write_page(classifier, judged, embeddings, result, data, options):
    """Write what was measured to options.html."""
    model = classifier.model
    rate = model.reject_rate if options.reject_rate is None else options.reject_rate
    unknown = {"reject_rate": rate, "calibrated_on": len(model.limits.scores), "images": 0}
    unknown |= {key: result[key] for key in ("known_rejected", "known_rejected_interval", "threshold")}
    evidence = Evidence(
        judged, result, result["skipped"], model_dir=options.model_dir, data=data,
        unknown=unknown | (result["unknown"] or {}),
        reliability_before=reliability(softmax(model.head.logits(embeddings)), judged.truth),
    )  # fmt: skip
    write_report(model, evidence, options.html)


def _score_candidates(candidates, truth, coverage):
    """How often the true label is among those named; None where none were asked for."""
    if candidates is None:
        return None
    sizes = candidates.sum(axis=1)
    return {
        "asked": coverage,
        **proportion("coverage", candidates[np.arange(len(truth)), truth]),
        "mean_size": float(sizes.mean()),
        **proportion("none", sizes == 0),
        **proportion("several", sizes > 1),
    }


def _find_labelled(data, options):
    """The data set, and the reader of its files."""
    if is_remote(data):
        if options.html:  # which shows pictures
            require_local(data)
        return find_remote_dataset(data, options.only)
    if labels_files(data):
        raise RetrainError(
            f"the pictures of {data} have several labels; this model tells one.",
            f"Name a folder with one folder a class, or train on it: retrain train {data}",
        )
    return find_dataset(data, options.only), None


def _known_pictures(dataset, data, classes):
    """Paths and class numbers of the pictures whose class the model knows, and paths of those in `_unknown/`."""
    leave_out_foreign(dataset.classes, classes)
    wanted = [
        row
        for row, label in enumerate(dataset.labels)
        if dataset.classes[label] in classes and (dataset.parts is None or dataset.parts[row] == TESTING)
    ]
    if not wanted:
        raise RetrainError(
            f"{data} holds no pictures of the model's classes.", f"It knows {', '.join(classes)}: one folder each."
        )
    labels = [classes.index(dataset.classes[dataset.labels[row]]) for row in wanted]
    return [dataset.paths[row] for row in wanted], labels, dataset.unknown
