"""Train: folders of pictures → embeddings → head → a calibrated model on disk."""

import hashlib
import logging
import os
import platform
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from retrain.calibrate import Limits, fit_temperature
from retrain.dataset import TESTING, legacy_labels
from retrain.errors import RetrainError
from retrain.faces import detector_file
from retrain.head import Search, few_threads, fit_head, require_scikit_learn, search_C, stratified_sample
from retrain.metrics import softmax
from retrain.model import Model, check_writable, learned_marks, save_model
from retrain.options import QUALITIES, TrainOptions, default_model_dir
from retrain.progress import stage
from retrain.recipes.consent import NOTICE, require_consent
from retrain.recipes.cropping import FOLDER as FACES
from retrain.recipes.cropping import alone_with_faces, keep_crops
from retrain.recipes.fine_tuning import FOLDER, fine_tune, tunable_spec
from retrain.recipes.judging import judge
from retrain.recipes.multilabel import fit_multilabel, judge_multilabel
from retrain.recipes.preparing import prepare
from retrain.report import render_multilabel, render_report
from retrain.unknown import AXES, cross_fit

LABELS_FILE = "retrained_labels.txt"
HEADS = {"softmax": "multinomial logistic regression", "sigmoid": "one-vs-rest logistic regression"}
TOLD_ELSEWHERE = "model_dir", "log_dir", "multi_label", "i_have_consent"  # not in model.json
TOO_LONG = "confusion", "reliability", "risk_coverage"  # for model.json; the report shows them

log = logging.getLogger("retrain")


@dataclass(frozen=True)
class Fitted:
    """A model, and what it was fitted on: rows of a Prepared with their embeddings and labels, sorted by content."""

    model: Model
    search: Search
    scores: np.ndarray  # float32 (k,): how known pictures are to detectors that had not learned them
    learned: np.ndarray  # int (n,): rows
    embeddings: np.ndarray  # float32 (n, D), normalized
    labels: np.ndarray  # int (n,)
    held_out: np.ndarray  # int (h,): those of the n that were judged by a model which had not learned them
    logits: np.ndarray  # float32 (h, C) of these
    tested: np.ndarray  # int (m,): rows
    kept_back: np.ndarray  # float32 (m, D), normalized


def train(data, options=TrainOptions()):  # noqa: B008 - frozen
    """Train a model on a folder with one folder a class, or with `labels.csv`, and save it.

    Returns what `train --json` prints: accuracy on pictures kept back and its 95 % Wilson interval, the scores of each
    class, how the unknown is told, what would help, counts, and the files skipped with their reason.
    Raises RetrainError.
    """
    start = time.perf_counter()
    require_scikit_learn()
    if options.faces:
        _require_faces(data, options)
    model_dir = Path(options.model_dir or default_model_dir())
    check_writable(model_dir)
    with alone_with_faces(store_path(model_dir).parent) if options.faces else nullcontext():
        result = _train(data, model_dir, options)
    return result | {"seconds": round(time.perf_counter() - start, 3)}


def _train(data, model_dir, options):
    name, kept = options.backbone or _backbone_of(options.quality), store_path(model_dir)
    tunable = tunable_spec(name) if options.fine_tunes else None
    prepared = prepare(data, name, options, kept)
    _tell_heavy(prepared.backbones)
    if options.faces:
        keep_crops(prepared.dataset, prepared.digests, kept.with_name(FACES))
    fit_model, judge_model, render = ONE_LABEL if prepared.dataset.targets is None else SEVERAL_LABELS
    stage("Fitting")
    fitted, tuned = fit_model(prepared, options), None
    if tunable:
        fitted, tuned = _fine_tuned(tunable, fitted, prepared, options, kept.with_name(FOLDER))
    model, dataset = fitted.model, prepared.dataset
    stage("Judging")
    told, evidence = judge_model(prepared, fitted, options)
    result = told | {
        "classes": dataset.classes,
        "images": len(dataset),
        "balance": options.balance,
        "class_weights": _class_weights(fitted, dataset, options),
        "left_out": prepared.left_out,
        "skipped": skipped_rows(prepared),
        "computed": prepared.computed,
        "quality": options.quality,
        "backbone": "+".join(backbone.spec.name for backbone in prepared.backbones),
        "fine_tuning": tuned,
        "needs_tensorflow": any(backbone.spec.runtime == "tensorflow" for backbone in model.backbones),
        "model_dir": str(model_dir),
    }
    model.info = _info(result, evidence.measures, prepared, fitted, options)
    evidence = replace(evidence, skipped=result["skipped"], **({"fine_tuning": tuned} if tuned else {}))
    save_model(model, model_dir, render(model, evidence) if options.report else None)
    _write_legacy_labels(dataset.classes, kept.with_name(LABELS_FILE))
    return result


def _require_faces(data, options):
    """Raise RetrainError where faces cannot be learned, or may not be; say what they are."""
    if options.fine_tunes:
        raise RetrainError("a network that learns on learns whole pictures, not faces.", "--quality good is the best.")
    detector_file()
    require_consent([data], options.i_have_consent)
    log.warning(NOTICE)


def _tell_heavy(backbones):
    for backbone in backbones:
        if backbone.spec.runtime == "tensorflow":
            log.warning(
                "%s cannot be converted to LiteRT: training is slow, and guessing with this model needs TensorFlow.",
                backbone.spec.name,
            )


def _fit(prepared, options):
    labels, tested = np.array(prepared.dataset.labels), prepared.parts == TESTING
    # By content, because the order of rows shows in the last bits of the weights, and names must not.
    learned = np.array(sorted(np.flatnonzero(~tested), key=lambda row: (labels[row], prepared.digests[row])))
    embeddings, kept_back = prepared.part_embeddings(learned, np.flatnonzero(tested))
    groups = [prepared.groups[row] for row in learned]
    model, search, scores = fit(
        prepared.dataset.classes, prepared.backbones, embeddings, labels[learned], groups, options
    )
    model.learned = learned_marks([prepared.digests[row] for row in learned])
    return Fitted(
        model, search, scores, learned, embeddings, labels[learned], search.rows, search.logits, np.flatnonzero(tested),
        kept_back,
    )  # fmt: skip


def _fine_tuned(spec, fitted, prepared, options, place):
    """The Fitted with a network that learned on, where that helps, and what is told of it."""
    tuned = fine_tune(spec, fitted, prepared, options, place)
    if not tuned.model:
        log.warning("Fine-tuning is discarded: %s.", tuned.told["why"])
        return fitted, tuned.told
    prepared.unknown = tuned.unknown
    fitted = replace(fitted, model=tuned.model, held_out=tuned.held_out, logits=tuned.logits, kept_back=tuned.kept_back)
    return fitted, tuned.told


# How a model is fitted, judged and shown.
ONE_LABEL = _fit, judge, render_report
SEVERAL_LABELS = fit_multilabel, judge_multilabel, render_multilabel


def fit(names, backbones, embeddings, labels, groups, options):
    """Model of stored embeddings: a head, its temperature, a sense of the unknown, and the limits that it can keep.

    embeddings: float32 (n, D), normalized.  labels: int (n,).  groups: bytes of each row's group.
    Returns the Model, the Search, and how known pictures are to detectors that had not learned them, float32 (m,).
    """
    weighted = options.balance == "weight"
    search = search_C(embeddings, labels, groups, len(names), options.seed, weighted)
    model = Model(names, backbones, fit_head(embeddings, labels, len(names), search.C, weighted))
    model.reject_rate, scores = options.reject_rate, np.empty(0, np.float32)
    if len(search.rows):
        truth = labels[search.rows]
        model.temperature = fit_temperature(search.logits, truth)
        confidences = softmax(search.logits / np.float32(model.temperature))[np.arange(len(truth)), truth]
        model.detector, scores, right = _fit_detector(search, embeddings, labels, groups)
        model.limits = Limits(np.sort(confidences), np.sort(scores[right]))
    return model, search, scores


def _fit_detector(search, embeddings, labels, groups):
    """Detector, scores of pictures by detectors that had not learned them, and which of these were guessed right.

    Only these set the limit: to call another one unknown loses nothing.
    """
    chosen = stratified_sample(labels[search.sample], [groups[row] for row in search.sample])
    rows, folds = search.sample[chosen], search.folds[chosen]
    with few_threads(len(rows) * embeddings.shape[1] * AXES):
        detector, scores = cross_fit(embeddings[rows], labels[rows], folds)
    right = search.rows[search.logits.argmax(axis=1) == labels[search.rows]]
    return detector, scores, np.isin(rows[folds >= 0], right)[: len(scores)]


def options_of(model):
    """The TrainOptions that a model was trained with."""
    return options_kept(model.info)


def options_kept(info):
    """The TrainOptions in what a model says of its making; those that are new since are as by default."""
    told: dict[str, Any] = {}
    for field in fields(TrainOptions):
        value = info["options"].get(field.name, field.default)
        told[field.name] = tuple(value) if isinstance(value, list) else value
    return TrainOptions(**told)


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


def _class_weights(fitted, dataset, options):
    """{class: how much each of its pictures counts}, so that all count the same; None where they do not, or several."""
    if options.balance != "weight" or dataset.targets is not None:
        return None
    labels, classes = fitted.labels, dataset.classes
    counts = np.bincount(labels, minlength=len(classes))
    return {
        name: round(len(labels) / (len(classes) * count), 4)
        for name, count in zip(classes, counts.tolist(), strict=True)
    }


def _info(result, measures, prepared, fitted, options):
    dataset, data_hash = prepared.dataset, hashlib.sha256()
    labelled = enumerate(prepared.digests)
    for name, digest in sorted((name, digest) for row, digest in labelled for name in dataset.names_of(row) or [""]):
        data_hash.update(f"{name}\0{digest.hex()}\n".encode("utf-8", "surrogateescape"))
    packages = "retrain", "numpy", "scikit-learn", "ai-edge-litert", "pillow"
    metrics = {key: value for key, value in measures.items() if key not in TOO_LONG}
    return {
        "metrics": metrics | {key: result[key] for key in ("accuracy_from", "test_images")},
        "unknown": result["unknown"],
        "counts": dict(zip(dataset.classes, dataset.counts().tolist(), strict=True)),
        "skipped": len(prepared.skipped),
        "left_out": prepared.left_out,
        "head": {"kind": HEADS[fitted.model.head.kind], "C": fitted.search.C},
        "data_sha256": data_hash.hexdigest(),
        "options": _without_paths(options, result),
        "quality": result["quality"],
        "backbone": result["backbone"],
        "fine_tuning": result["fine_tuning"],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "platform": {"system": platform.system(), "machine": platform.machine()},
    }


def _without_paths(options, result):
    """The options for `model.json`, which may be handed on: where things lie on this machine is nobody's business."""
    kept = {key: value for key, value in asdict(options).items() if key not in TOLD_ELSEWHERE}
    return kept | {"backbone": options.backbone and result["backbone"]}


def _write_legacy_labels(classes, path):
    """`retrained_labels.txt`: the labels in the old form."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text("".join(f"{label}\n" for label in legacy_labels(classes)))
        temporary.replace(path)
    except OSError as error:
        log.warning("%s cannot be written (%s).", path, error.strerror)
        temporary.unlink(missing_ok=True)
