"""Fine-tune: a network that learns on from a user's pictures, beside the frozen ones.  Kept only where it helps.

What its lower half says of each picture and of some random views of it is computed once and kept beside the model, so
that a run that was stopped goes on where it stopped.
"""

import hashlib
import json
import logging
import shutil
import time
from contextlib import suppress
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
from retrain.parallel import chunks, ordered_map
from retrain.progress import track
from retrain.recipes.locking import locked

FOLDER, LOCK = "fine-tuning", "lock"  # beside the model
VIEWS = 4  # random ones of each picture, beside the plain one
VALIDATED = 0.1  # share of the pictures, or more where these would be fewer than
ENOUGH = 60
FEWEST = 20  # validation pictures; fewer cannot tell what helps
LOOKING = 0.3  # share of the time that may go into views
MOST_BYTES = 8e9  # of views, on disk
LARGE = 640  # px, the longer side of pictures that views are taken of
AT_ONCE = 32  # pictures
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
    training, validation = _parts(fitted, prepared, options)
    told = {"kept": False, "backbone": spec.name, "validation_images": len(validation), "history": []}
    if len(validation) < FEWEST:
        return Tuned(told | {"why": f"{len(validation)} pictures cannot tell whether it helps, {FEWEST} can"})
    try:
        history, pictures, backbone, own = _tune(spec, fitted, prepared, training, validation, options, Path(place))
    except KeyboardInterrupt:
        log.warning("Stopped: fine-tuning is left out. The same command goes on with it.")
        return Tuned(told | {"why": "it was stopped"})
    except OSError as error:
        return Tuned(told | {"why": f"{place} cannot be written ({error.strerror or error})"})
    if not pictures:
        return Tuned(told | {"why": f"{options.max_minutes:g} minutes are too few"})
    tuned = _side_by_side(fitted, prepared, training, validation, backbone, own, options)
    told |= {"pictures": pictures, "history": history, "seconds": round(time.monotonic() - start, 1)}
    return replace(tuned, told=told | tuned.told)


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


def _tune(spec, fitted, prepared, training, validation, options, place):
    """The history of the training, how many pictures it took, the Backbone and the Head that came of it.

    No pictures: the time was too short.
    """
    from retrain.tf import open_tuner

    start, minutes = time.monotonic(), 60 * options.max_minutes
    tuner = open_tuner(spec)
    rows = np.concatenate([validation, training])
    names = [prepared.digests[row].hex() for row in fitted.learned[rows]]
    paths = [prepared.dataset.paths[row] for row in fitted.learned[rows]]
    folder = place / _key(tuner, names, fitted.labels[rows], options)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, "train", folder):
        _remove_others(folder)
        views = _views(folder, tuner, paths, names, options.seed, start + LOOKING * minutes)
        pictures = max(0, len(views) - len(validation))
        if not pictures:
            return [], 0, None, None
        own, history, ended = _learn(tuner, views, fitted, rows, len(validation), folder, options, start + minutes)
        content, suffix, weights = tuner.to_file()
        if ended:
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another one may be at work there
        place.rmdir()
    runtime = next(runtime for runtime, other in SUFFIXES.items() if other == suffix)
    name = f"{spec.name.removesuffix('-float32')}-fine-tuned"
    made = replace(spec, name=name, weights_package="", weights_file="", mean=0.0, scale=1.0, runtime=runtime)
    return history, pictures, Backbone(made, content, lambda: weights), own


def _key(tuner, names, labels, options):
    """Name of the folder of this training: another one has another."""
    said = [tuner.spec.name, tuner.shape, options.seed, options.balance, names, labels.tolist()]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _remove_others(folder):
    """Remove what other trainings have left that were stopped and did not go on."""
    for other in folder.parent.iterdir():
        if other != folder and (other / LOCK).exists():
            with suppress(RetrainError), locked(other / LOCK, "train", other):
                shutil.rmtree(other, ignore_errors=True)


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
        for chunk in chunks(track(looked, "Looking at views", len(todo)), AT_ONCE):
            file.write(tuner.activate(np.concatenate(chunk)).tobytes())
            if time.monotonic() > deadline:
                break
        done = file.tell() // size
    return np.memmap(path, np.float16, "r", shape=(done, *shape)) if done else np.empty((0, *shape), np.float16)


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
    """The Head that came of it, the history, and whether it came to its end."""
    from sklearn.utils.class_weight import compute_sample_weight

    labels, classes = fitted.labels[rows[: len(views)]], len(fitted.model.classes)
    weights = compute_sample_weight("balanced" if options.balance == "weight" else None, labels).astype(np.float32)
    embeddings = normalize([tuner.embed(np.ascontiguousarray(views[:, 0]))])
    head = fit_head(embeddings[validated:], labels[validated:], classes, fitted.search.C, options.balance == "weight")
    settings = {"seed": options.seed, "deadline": deadline, "log_dir": options.log_dir}
    learned = views[validated:, 1:], labels[validated:], weights[validated:]
    unseen = np.ascontiguousarray(views[:validated, 0]), labels[:validated], weights[:validated]
    return tuner.fit(learned, unseen, head, folder, settings)


def _side_by_side(fitted, prepared, training, validation, backbone, own, options):
    """Tuned: the frozen networks and the one that learned on, each by how far it is to be trusted."""
    asked = [prepared.dataset.paths[row] for row in np.concatenate([fitted.learned[validation], fitted.tested])]
    with Store(None) as store:
        embedded = embed_files([*asked, *prepared.dataset.unknown], [backbone], store)
    if len(embedded.kept) < len(asked) + len(prepared.dataset.unknown):
        return Tuned({"why": "pictures changed meanwhile"})
    unseen, kept_back, unknown = np.split(normalize(embedded.embeddings), [len(validation), len(asked)])
    weighted, truth = options.balance == "weight", fitted.labels[validation]
    frozen = fit_head(
        fitted.embeddings[training], fitted.labels[training], len(fitted.model.classes), fitted.search.C, weighted
    )
    heat, before = _cooled(frozen.logits(fitted.embeddings[validation]), truth)
    own_heat, found = _cooled(own.logits(unseen), truth)
    share, logits, told = _mix(before, found, truth)
    if not told["kept"]:
        return Tuned(told)
    model = _join(fitted.model, backbone, own, ((1 - share) / heat, share / own_heat))
    model.temperature = fit_temperature(logits, truth)
    confidences = softmax(logits / np.float32(model.temperature))[np.arange(len(truth)), truth]
    model.limits = replace(model.limits, confidences=np.sort(confidences))
    kept_back = _beside(fitted.kept_back, kept_back, len(model.backbones))
    unknown = _beside(prepared.unknown, unknown, len(model.backbones))
    return Tuned(told, model, validation, logits, kept_back, unknown)


def _cooled(logits, truth):
    """Temperature of logits, and what they are divided by it."""
    temperature = fit_temperature(logits, truth)
    return temperature, logits / np.float32(temperature)


def _mix(frozen, own, truth):
    """The share of the network that learned on with the least loss, the logits (v, C) then, and what is told of it."""
    mixed = [((1 - share) * frozen + share * own).astype(np.float32) for share in SHARES]
    losses = [log_losses(logits, truth) for logits in mixed]
    best = int(np.argmin([each.mean() for each in losses]))
    before = log_losses(frozen, truth)
    kept = _helps(before - losses[best])
    told = {
        "kept": kept, "why": None if kept else "it is no better on the validation pictures than without",
        "share": round(float(SHARES[best]), 2), "loss": float(losses[best].mean()), "loss_frozen": float(before.mean()),
        "accuracy": float(np.mean(mixed[best].argmax(axis=1) == truth)),
        "accuracy_frozen": float(np.mean(frozen.argmax(axis=1) == truth)),
    }  # fmt: skip
    return float(SHARES[best]), mixed[best], told


def _join(model, backbone, own, factors):
    """The Model with one network more, whose logits are the sum of both heads', each times its factor."""
    count = len(model.backbones)
    # Each of so many networks has its part of an embedding of length 1.
    frozen, added = factors[0] * ((count + 1) / count) ** 0.5, factors[1] * (count + 1) ** 0.5
    weights = np.concatenate([model.head.weights * np.float32(frozen), own.weights * np.float32(added)], axis=1)
    intercept = model.head.intercept * np.float32(factors[0]) + own.intercept * np.float32(factors[1])
    return replace(model, backbones=[*model.backbones, backbone], head=Head(weights, intercept))


def _beside(frozen, own, count):
    """Normalized embeddings of all `count` networks, of those of the frozen ones and of one more."""
    scale = np.float32(count**0.5)
    return np.concatenate([frozen * np.float32((count - 1) ** 0.5) / scale, own / scale], axis=1)


def _helps(gain):
    """Whether a loss that falls by so much on each validation picture is worth a network more.  gain: float (v,)."""
    return bool(gain.mean() > WORTH)
