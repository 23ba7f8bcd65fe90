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

from retrain.backbones import load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.calibrate import fit_temperature
from retrain.classifier import Classifier
from retrain.dataset import (
    NOHASH,
    TESTING,
    find_dataset,
    legacy_label,
    related_by_name,
    require_classes,
    split,
    warn_of_small_classes,
)
from retrain.duplicates import find_pairs, group_by
from retrain.errors import RetrainError
from retrain.head import fit_head, normalize, search_C
from retrain.metrics import confusion_matrix, wilson_interval
from retrain.model import Model, check_writable, save_model
from retrain.options import QUALITIES, TrainOptions, default_model_dir
from retrain.report import render_report

NAMED = 5  # pictures named in a warning

log = logging.getLogger("retrain")


def train(data, options=TrainOptions()):  # noqa: B008 - frozen
    """Train a model on a folder with one folder a class, and save it.

    Returns what `train --json` prints: accuracy on pictures kept back, its 95 % Wilson interval, counts, and the
    files skipped with their reason.  Raises RetrainError.
    """
    start = time.perf_counter()
    model_dir = Path(options.model_dir or default_model_dir())
    check_writable(model_dir)
    dataset = find_dataset(data, options.only)
    require_classes(dataset, data)
    name = options.backbone or _backbone_of(options.quality)
    backbones = [load_backbone(part) for part in name.split("+")]
    kept = store_path(model_dir)
    with Store(kept) as store:
        embedded = embed_files(dataset.paths, backbones, store)
        dataset = _keep_pictures(dataset, embedded, data)
        embeddings, labels = normalize(embedded.embeddings), np.array(dataset.labels)
        del embedded.embeddings[:]
        groups = _groups(dataset, embedded, embeddings, options)
        tested = _parts(dataset, groups, options) == TESTING
        _tell_moved(dataset, embedded.digests, tested, store, options)

    # By content, because the order of rows shows in the last bits of the weights, and names must not.
    learned = np.array(sorted(np.flatnonzero(~tested), key=lambda row: (labels[row], embedded.digests[row])))
    learned_groups = [groups[row] for row in learned]
    classes = len(dataset.classes)
    search = search_C(embeddings[learned], labels[learned], learned_groups, classes, options.seed)
    out_of_fold = search.logits, labels[learned][search.rows]
    temperature = fit_temperature(*out_of_fold) if len(search.rows) else 1.0
    head = fit_head(embeddings[learned], labels[learned], classes, search.C)

    model = Model(dataset.classes, backbones, head, temperature)
    if tested.any():
        guesses, truth = Classifier(model).probabilities_of(embeddings[tested]).argmax(axis=1), labels[tested]
    else:
        guesses, truth = search.logits.argmax(axis=1), out_of_fold[1]
    result = {
        "accuracy": float(np.mean(guesses == truth)) if len(truth) else None,
        "accuracy_interval": list(wilson_interval(int(np.sum(guesses == truth)), len(truth))),
        "accuracy_from": "test" if tested.any() else "cross-validation",
        "test_images": int(tested.sum()),
        "classes": dataset.classes,
        "images": len(dataset),
        "skipped": skipped_rows(embedded),
        "computed": embedded.computed,
        "quality": options.quality,
        "backbone": name,
        "model_dir": str(model_dir),
    }
    confusion = confusion_matrix(truth, guesses, classes)
    model.info = _info(result, confusion, dataset, embedded, search, options)
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


def _keep_pictures(dataset, embedded, data):
    """The data set without the files that are no pictures and the classes that lost all."""
    labels = [dataset.labels[row] for row in embedded.kept]
    if not labels and embedded.skipped:
        reasons = [error.reason for _, error in embedded.skipped]
        counts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
        raise RetrainError(
            f"no pictures under {data} ({len(reasons)} files looked at, all refused: {counts}).",
            "Put JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC pictures there.",
        )
    present = sorted(set(labels))
    for lost in sorted(set(range(len(dataset.classes))) - set(present)):
        log.warning("class %s holds no picture: left out.", dataset.classes[lost])
    dataset.classes = [dataset.classes[number] for number in present]
    dataset.labels = np.searchsorted(present, labels).tolist()
    dataset.paths = [dataset.paths[row] for row in embedded.kept]
    dataset.parts = dataset.parts and [dataset.parts[row] for row in embedded.kept]
    require_classes(dataset, data)
    warn_of_small_classes(dataset)
    return dataset


def _groups(dataset, embedded, embeddings, options):
    pairs = find_pairs(embeddings, embedded.thumbnails)
    if len(pairs.first):
        log.info("%d pair(s) of near-duplicates: each stays on one side of the split.", len(pairs.first))
    patterns = [NOHASH, *filter(None, [options.group_by])]
    return group_by(embedded.digests, pairs[:2], related_by_name(dataset.paths, patterns))


def _tell_moved(dataset, digests, tested, store, options):
    """Say which pictures the last training kept back and this one learns from."""
    if dataset.parts is None:
        before = store.tested(options.test_share)
        moved = [row for row in np.flatnonzero(~tested) if digests[row] in before]
        if moved:
            names = ", ".join(str(dataset.paths[row]) for row in moved[:NAMED])
            more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
            log.warning("now learned, because copies of them or others of their class came in: %s%s.", names, more)
        store.note_tested(options.test_share, [digests[row] for row in np.flatnonzero(tested)])


def _parts(dataset, groups, options):
    if dataset.parts is None:
        shares = {"test_share": options.test_share, "validation_share": options.validation_share}
        return split(dataset.labels, groups, **shares)
    parts = np.array(dataset.parts)
    untrained = set(dataset.labels) - set(np.array(dataset.labels)[parts != TESTING])
    if untrained:
        names = ", ".join(dataset.classes[number] for number in sorted(untrained))
        raise RetrainError(f"{names}: pictures in test/ only, none in train/.", "Add some to train/, or use --only.")
    learned = {group for group, part in zip(groups, parts, strict=True) if part != TESTING}
    leaked = sum(group in learned for group, part in zip(groups, parts, strict=True) if part == TESTING)
    if leaked:
        log.warning("%d picture(s) of test/ have a copy in train/: the accuracy is flattered.", leaked)
    return parts


def _info(result, confusion, dataset, embedded, search, options):
    data_hash = hashlib.sha256()
    for label, digest in sorted(zip(dataset.labels, embedded.digests, strict=True)):
        data_hash.update(f"{dataset.classes[label]}\0{digest.hex()}\n".encode("utf-8", "surrogateescape"))
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    packages = "retrain", "numpy", "scikit-learn", "ai-edge-litert", "pillow"
    metrics = {key: result[key] for key in ("accuracy", "accuracy_interval", "accuracy_from", "test_images")}
    return {
        "metrics": metrics | {"confusion": confusion.tolist()},
        "counts": dict(zip(dataset.classes, counts.tolist(), strict=True)),
        "skipped": len(embedded.skipped),
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
