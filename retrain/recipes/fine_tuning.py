"""Fine-tune: a network that learns on from a user's pictures, beside the frozen ones.  Kept only where it helps.

What its lower half says of each picture and of some random views of it is computed once and kept beside the model, so
that a run that was stopped goes on where it stopped.
"""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.augment import augment
from retrain.backbones import Backbone, find_spec, is_source, names_of
from retrain.backbones.runner import SUFFIXES
from retrain.bottlenecks import Store, embed_files
from retrain.calibrate import fit_temperature
from retrain.errors import RetrainError
from retrain.head import Head, fit_head, make_folds, normalize
from retrain.images import ImageError, decode, read, to_input
from retrain.metrics import log_losses, softmax
from retrain.parallel import ordered_map
from retrain.progress import track
from retrain.recipes.locking import locked

FOLDER = "fine-tuning"  # beside the model
VIEWS = 4  # random ones of each picture, beside the plain one
VALIDATED = 0.1  # share of the pictures, or more where these would be fewer than
ENOUGH = 60
FEWEST = 20  # validation pictures; fewer cannot tell what helps
LOOKING = 0.3  # share of the time that may go into views
MOST_BYTES = 8e9  # of views, on disk
LARGE = 640  # px, the longer side of pictures that views are taken of
AT_ONCE = 8  # pictures
WORTH = 0.01  # nats: so much less loss is worth a network more
SHARES = np.linspace(0.1, 1, 10)  # of the fine-tuned network in what is said in the end

log = logging.getLogger("retrain")


@dataclass(frozen=True)
class Tuned:
    """What came of it.  Without a model it is discarded."""

    told: dict  # for JSON: {"kept", "why", "backbone", "pictures", "validation_images", "history", "share", "seconds"}
    model: object = None  # the Model that it makes of the frozen one
    held_out: object = None  # int (v,): rows of what is learned that it was chosen by
    logits: object = None  # float32 (v, C) of these
    kept_back: object = None  # float32 (m, D), normalized
    unknown: object = None  # float32 (u, D), normalized, of what lies in `_unknown/`


def fine_tune(spec, fitted, prepared, options, place):
    """Tuned, of a Fitted and the Prepared pictures that it was fitted on.

    spec: BackboneSpec of `tunable_spec`.  place: folder that views may be kept below.
    """
    start = time.monotonic()
    deadline = start + 60 * options.max_minutes
    training, validation = _parts(fitted, prepared, options)
    told = {"kept": False, "backbone": spec.name, "validation_images": len(validation), "history": []}
    if len(validation) < FEWEST:
        return Tuned(told | {"why": f"{len(validation)} pictures cannot tell whether it helps, {FEWEST} can"})
    from retrain.tf import open_tuner

    tuner = open_tuner(spec)
    rows = np.concatenate([validation, training])
    names = [prepared.digests[row].hex() for row in fitted.learned[rows]]
    folder = _folder(place, tuner, names, fitted.labels[rows], options)
    with locked(folder / "lock", "train", folder):
        try:
            paths = [prepared.dataset.paths[row] for row in fitted.learned[rows]]
            views = _views(folder, tuner, paths, names, options.seed, start + LOOKING * 60 * options.max_minutes)
            if len(views) <= len(validation):
                return Tuned(told | {"why": f"{options.max_minutes:g} minutes are too few"})
            history, own, ended = _learn(tuner, views, fitted, rows, len(validation), folder, options, deadline)
        except KeyboardInterrupt:
            log.warning("Stopped: fine-tuning is left out. The same command goes on with it.")
            return Tuned(told | {"why": "it was stopped"})
        content, suffix = tuner.to_file()
        if ended:
            shutil.rmtree(place, ignore_errors=True)
    told |= {"pictures": len(views) - len(validation), "history": history}
    runtime = next(runtime for runtime, other in SUFFIXES.items() if other == suffix)
    name = f"{spec.name.removesuffix('-float32')}-fine-tuned"
    backbone = Backbone(
        replace(spec, name=name, weights_package="", weights_file="", mean=0.0, scale=1.0, runtime=runtime), content
    )
    tuned = _side_by_side(fitted, prepared, training, validation, backbone, own, options)
    seconds = {"seconds": round(time.monotonic() - start, 1)}
    return replace(tuned, told=told | tuned.told | seconds)


def tunable_spec(backbone):
    """BackboneSpec, in full precision, of the first of the networks named.

    Raises RetrainError now, before any work, where it cannot learn on.
    """
    name = names_of(backbone)[0]
    if is_source(name):
        raise RetrainError(
            f"{name} cannot be fine-tuned: only networks that retrain backbones lists can.",
            "Leave --fine-tune out, or name one of these first.",
        )
    from retrain.tf import require

    require()
    spec = find_spec(name)
    return spec if spec.precision == "float32" else find_spec(f"{name}-float32")


def _parts(fitted, prepared, options):
    """Rows of what is learned: those to learn on from, in random order, and those to choose by."""
    groups = [prepared.groups[row] for row in fitted.learned]
    count = len(groups)
    share = max(VALIDATED, min(0.25, ENOUGH / count))
    folds = make_folds(fitted.labels, groups, options.seed, round(1 / share))
    order = np.random.default_rng(options.seed).permutation(count)
    return order[folds[order] != 0], np.flatnonzero(folds == 0)


def _folder(place, tuner, names, labels, options):
    """Folder of this training, new or left by one that was stopped; what another one left is removed."""
    said = [tuner.spec.name, tuner.shape, options.seed, options.balance, names, labels.tolist()]
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
    folder = Path(place) / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for other in Path(place).iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    except OSError as error:
        raise RetrainError(f"cannot write to {place}: {error.strerror}.", "Give --model-dir another place.") from error
    return folder


def _views(folder, tuner, paths, names, seed, deadline):
    """Activations float16 (n, 1 + VIEWS, ...): of the plain picture and of random views; n is what time and disk allow.

    Rows of pictures that are gone are zero.
    """
    shape = (1 + VIEWS, *tuner.shape)
    size = 2 * int(np.prod(shape))
    path = folder / "activations"
    room = MOST_BYTES // size
    with open(path, "ab") as file:
        done = file.tell() // size
        file.truncate(done * size)
        room = min(room, done + shutil.disk_usage(folder).free // 2 // size)
        if room < len(paths):
            log.warning("%d of %d pictures are learned from: there is no room for views of more.", room, len(paths))
        todo = range(done, int(min(room, len(paths))))
        looked = ordered_map(lambda row: _look(paths[row], names[row], tuner.spec, seed), todo)
        for chunk in _chunks(track(looked, "Looking at views", len(todo))):
            file.write(tuner.activate(np.concatenate(chunk)).tobytes())
            if time.monotonic() > deadline:
                break
        done = file.tell() // size
    return np.memmap(path, np.float16, "r", shape=(done, *shape)) if done else np.empty((0, *shape), np.float16)


def _chunks(items):
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _look(path, name, spec, seed):
    """uint8 (1 + VIEWS, H, W, 3)."""
    try:
        image = decode(read(path))
    except ImageError:  # gone since it was embedded
        return np.zeros((1 + VIEWS, spec.image_size, spec.image_size, 3), np.uint8)
    random = np.random.default_rng([seed, int(name[:16], 16)])
    plain = to_input(image, spec.image_size, spec.crop)
    image.thumbnail((LARGE, LARGE))
    return np.stack([plain, *(augment(image, spec.image_size, random) for _ in range(VIEWS))])


def _learn(tuner, views, fitted, rows, validated, folder, options, deadline):
    """The history of the training, the Head that came of it, and whether it came to its end."""
    labels, classes = fitted.labels[rows[: len(views)]], len(fitted.model.classes)
    weights = _weights(labels, classes) if options.balance == "weight" else np.ones(len(labels), np.float32)
    embeddings = normalize([tuner.embed(np.ascontiguousarray(views[:, 0]))])
    head = fit_head(embeddings[validated:], labels[validated:], classes, fitted.search.C, options.balance == "weight")
    settings = {"seed": options.seed, "deadline": deadline, "log_dir": options.log_dir}
    learned = views[validated:, 1:], labels[validated:], weights[validated:]
    unseen = np.ascontiguousarray(views[:validated, 0]), labels[:validated], weights[:validated]
    head, history, ended = tuner.fit(learned, unseen, head, folder, settings)
    return history, head, ended


def _weights(labels, classes):
    """How much each row counts, so that all classes count the same."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return (len(labels) / (classes * counts))[labels].astype(np.float32)


def _side_by_side(fitted, prepared, training, validation, backbone, own, options):
    """Tuned: the frozen networks and the one that learned on, each by how far it is to be trusted."""
    model, labels = fitted.model, fitted.labels
    asked = [prepared.dataset.paths[row] for row in np.concatenate([fitted.learned[validation], fitted.tested])]
    asked += prepared.dataset.unknown
    with Store(None) as store:
        embedded = embed_files(asked, [backbone], store)
    if len(embedded.kept) < len(asked):
        return Tuned({"why": "pictures changed meanwhile"})
    unseen, kept_back, unknown = np.split(
        normalize(embedded.embeddings), np.cumsum([len(validation), len(fitted.tested)])
    )
    found = own.logits(unseen)
    weighted = options.balance == "weight"
    frozen = fit_head(fitted.embeddings[training], labels[training], len(model.classes), fitted.search.C, weighted)
    before, truth = frozen.logits(fitted.embeddings[validation]), labels[validation]
    cool, own_cool = fit_temperature(before, truth), fit_temperature(found, truth)
    mixed = [(1 - share) * before / cool + share * found / own_cool for share in SHARES]
    losses = [log_losses(logits, truth) for logits in mixed]
    best = int(np.argmin([each.mean() for each in losses]))
    loss_before = log_losses(before / cool, truth)
    gain = loss_before - losses[best]
    share, logits = float(SHARES[best]), mixed[best].astype(np.float32)
    told = {
        "share": round(share, 2), "loss": float(losses[best].mean()), "loss_frozen": float(loss_before.mean()),
        "accuracy": float(np.mean(logits.argmax(axis=1) == truth)),
        "accuracy_frozen": float(np.mean(before.argmax(axis=1) == truth)),
    }  # fmt: skip
    if not _helps(gain):
        return Tuned(told | {"why": "it is no better on the validation pictures than without"})
    parts = len(model.backbones)
    scale, own_scale = np.float32(((parts + 1) / parts) ** 0.5), np.float32((parts + 1) ** 0.5)
    part, own_part = np.float32((1 - share) / cool), np.float32(share / own_cool)
    head = Head(
        np.concatenate([model.head.weights * part * scale, own.weights * own_part * own_scale], axis=1),
        model.head.intercept * part + own.intercept * own_part,
    )
    temperature = fit_temperature(logits, truth)
    confidences = softmax(logits / np.float32(temperature))[np.arange(len(truth)), truth]
    limits = replace(model.limits, confidences=np.sort(confidences))
    kept_back, unknown = (
        np.concatenate([frozen / scale, own / own_scale], axis=1)
        for frozen, own in ((fitted.kept_back, kept_back), (prepared.unknown, unknown))
    )
    model = replace(model, backbones=[*model.backbones, backbone], head=head, temperature=temperature, limits=limits)
    return Tuned(told | {"kept": True, "why": None}, model, validation, logits, kept_back, unknown)


def _helps(gain):
    """Whether a loss that falls by so much on each validation picture is worth a network more.  gain: float (v,)."""
    return bool(gain.mean() > WORTH)
