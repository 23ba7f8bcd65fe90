"""Add: one more class, beside those that a model knows."""

import hashlib
import logging
import shlex
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from PIL import Image

from retrain.calibrate import pictures_needed
from retrain.dataset import class_folders, find_dataset
from retrain.errors import RetrainError
from retrain.images import ImageError, read
from retrain.model import find_classes, learned_marks, load_model
from retrain.odd import STRANGE
from retrain.options import TrainOptions
from retrain.parallel import ordered_map
from retrain.recipes.collecting import FEWEST, collect
from retrain.recipes.training import options_of, train

ALIKE = 0.85  # two labels, of 1; a new one so like an old one is mistyped
LEARNED = 0.5  # share of the pictures that a model has learned; with fewer of them it would become another one

SUFFIXES = set(Image.registered_extensions())

log = logging.getLogger("retrain")


def add_class(query, name, data, model_dir, options):
    """Collect pictures of a class into `data/<name>`, and train the model anew with it.

    The other classes are the model's, or where there is none, the folders in `data`; without any nothing is trained.
    query: what to search for.  options: CrawlOptions.
    Returns {class: its pictures}, the sources that did not answer, and whether a model was trained.
    Raises RetrainError.
    """
    known = find_classes(model_dir)
    model = load_model(model_dir) if known else None
    if model and model.head.kind == "sigmoid":
        raise RetrainError(
            f"the model has no label {name!r}, and as it tells several labels of a picture, crawls cannot add it.",
            "Mark the label on all its pictures, and train again.",
        )
    _require_new(query, name, known, data)
    if model:
        _require_learned_pictures(model, data)
    others = known or [other for other in class_folders(data) if other != name]
    log.info("No model knows %s: pictures of it teach one.", name)
    # A distance needs as many pictures as it takes to call one in so many strange.
    counts, failures = collect({name: query}, data, options, FEWEST if others else pictures_needed(STRANGE) + 1)
    if others:
        old = options_of(model) if model else TrainOptions()
        train(data, replace(old, model_dir=model_dir, only=(*others, name)))
    return counts, failures, bool(others)


def _require_new(query, name, known, data):
    """Raise RetrainError where a label is a file's name, or a mistyped one, or where the data lack a known class."""
    folders = class_folders(data)
    if name in folders:
        near = []
    elif set("/\\*") & set(query) or Path(query).suffix.lower() in SUFFIXES:
        raise RetrainError(f"there is no file {query}, and it is a strange name for a label.", "Check the path.")
    else:
        near = get_close_matches(name, known, cutoff=ALIKE)
    if near:
        anew = f"retrain crawl {shlex.quote(query)} --out {shlex.quote(str(data))}"
        raise RetrainError(f"the model has no label {name!r}.", f"It has {', '.join(near)}. For a new one: {anew}")
    lost = [other for other in known if other not in folders]
    if lost:
        raise _elsewhere(f"the model knows {', '.join(lost)}, of which {data} holds no pictures")


def _require_learned_pictures(model, data):
    """Raise RetrainError where a folder of the same classes holds other pictures than the model has learned."""
    files = find_dataset(data, tuple(model.classes)).paths
    digests = [digest for digest in ordered_map(_digest, files) if digest]
    if np.isin(model.learned, learned_marks(digests)).sum() < LEARNED * len(model.learned):
        raise _elsewhere(f"{data} holds other pictures than the model has learned")


def _elsewhere(what):
    return RetrainError(
        f"{what}: it cannot be trained anew.",
        "Name the folder that it was trained on: --data FOLDER. Or leave the label out.",
    )


def _digest(path):
    try:
        return hashlib.sha256(read(path)).digest()
    except ImageError:
        return None
