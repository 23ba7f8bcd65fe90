"""Train: folders of pictures → embeddings → head → a calibrated model on disk."""

import hashlib
import logging
import os
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from retrain.calibrate import fit_temperature
from retrain.classifier import Classifier
from retrain.dataset import TESTING, legacy_label
from retrain.errors import RetrainError
from retrain.head import fit_head, require_scikit_learn, search_C
from retrain.metrics import confusion_matrix, wilson_interval
from retrain.model import Model, check_writable, save_model
from retrain.options import QUALITIES, TrainOptions, default_model_dir
from retrain.recipes.preparing import prepare
from retrain.report import render_report

log = logging.getLogger("retrain")


def train(data, options=TrainOptions()):  # noqa: B008 - frozen
    """Train a model on a folder with one folder a class, and save it.

    Returns what `train --json` prints: accuracy on pictures kept back, its 95 % Wilson interval, counts, and the
    files skipped with their reason.  Raises RetrainError.
    """
    start = time.perf_counter()
    require_scikit_learn()
    model_dir = Path(options.model_dir or default_model_dir())
    check_writable(model_dir)
    name, kept = options.backbone or _backbone_of(options.quality), store_path(model_dir)
    prepared = prepare(data, name, options, kept)
    dataset, tested = prepared.dataset, prepared.parts == TESTING
    labels, classes, weighted = np.array(dataset.labels), len(dataset.classes), options.balance == "weight"

    # By content, because the order of rows shows in the last bits of the weights, and names must not.
    learned = np.array(sorted(np.flatnonzero(~tested), key=lambda row: (labels[row], prepared.digests[row])))
    groups = [prepared.groups[row] for row in learned]
    embeddings, kept_back = prepared.embeddings[learned], prepared.embeddings[tested]
    del prepared.embeddings  # of many pictures one copy fills the memory enough
    search = search_C(embeddings, labels[learned], groups, classes, options.seed, weighted)
    out_of_fold = search.logits, labels[learned][search.rows]
    temperature = fit_temperature(*out_of_fold) if len(search.rows) else 1.0
    head = fit_head(embeddings, labels[learned], classes, search.C, weighted)

    model = Model(dataset.classes, prepared.backbones, head, temperature)
    if tested.any():
        guesses, truth = Classifier(model).probabilities_of(kept_back).argmax(axis=1), labels[tested]
    else:
        guesses, truth = search.logits.argmax(axis=1), out_of_fold[1]
    result = {
        "accuracy": float(np.mean(guesses == truth)) if len(truth) else None,
        "accuracy_interval": list(wilson_interval(int(np.sum(guesses == truth)), len(truth))),
        "accuracy_from": "test" if tested.any() else "cross-validation",
        "test_images": int(tested.sum()),
        "classes": dataset.classes,
        "images": len(dataset),
        "balance": options.balance,
        "class_weights": _class_weights(labels[learned], dataset.classes) if weighted else None,
        "left_out": prepared.left_out,
        "skipped": skipped_rows(prepared),
        "computed": prepared.computed,
        "quality": options.quality,
        "backbone": name,
        "model_dir": str(model_dir),
    }
    confusion = confusion_matrix(truth, guesses, classes)
    model.info = _info(result, confusion, prepared, search, options)
    save_model(model, model_dir, render_report(model) if options.report else None)
    _write_legacy_labels(dataset.classes, kept.with_name("retrained_labels.txt"))
    result["seconds"] = round(time.perf_counter() - start, 3)
    return result


def store_path(model_dir):
    """The embedding store lies beside the model."""
    return Path(model_dir).absolute().parent / "bottlenecks.sqlite"


def skipped_rows(embedded):
    """The files that yielded no picture, for JSON."""
    return [{"path": str(path), "reason": str(error)} for path, error in embedded.skipped]


def _backbone_of(quality):
    if quality not in QUALITIES:
        raise RetrainError(f"there is no quality {quality!r}.", f"Choose one of {', '.join(QUALITIES)}.")
    return QUALITIES[quality]


def _class_weights(labels, classes):
    """{class: how much each of its pictures counts}, so that all classes count the same."""
    counts = np.bincount(labels, minlength=len(classes))
    return {
        name: round(len(labels) / (len(classes) * count), 4)
        for name, count in zip(classes, counts.tolist(), strict=True)
    }


def _info(result, confusion, prepared, search, options):
    dataset, data_hash = prepared.dataset, hashlib.sha256()
    for label, digest in sorted(zip(dataset.labels, prepared.digests, strict=True)):
        data_hash.update(f"{dataset.classes[label]}\0{digest.hex()}\n".encode("utf-8", "surrogateescape"))
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    packages = "retrain", "numpy", "scikit-learn", "ai-edge-litert", "pillow"
    metrics = {key: result[key] for key in ("accuracy", "accuracy_interval", "accuracy_from", "test_images")}
    return {
        "metrics": metrics | {"confusion": confusion.tolist()},
        "counts": dict(zip(dataset.classes, counts.tolist(), strict=True)),
        "skipped": len(prepared.skipped),
        "left_out": prepared.left_out,
        "head": {"kind": "multinomial logistic regression", "C": search.C},
        "data_sha256": data_hash.hexdigest(),
        "options": {key: value for key, value in asdict(options).items() if key != "model_dir"},
        "quality": result["quality"],
        "backbone": result["backbone"],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def _write_legacy_labels(classes, path):
    """`retrained_labels.txt`: the labels in the old form, all numbered where two would be the same."""
    labels = [legacy_label(name) for name in classes]
    if len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        labels = [f"{label.strip()} {row}".strip() for row, label in enumerate(labels)]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text("".join(f"{label}\n" for label in labels))
        temporary.replace(path)
    except OSError as error:
        log.warning("%s cannot be written (%s).", path, error.strerror)
        temporary.unlink(missing_ok=True)
