"""Add: one more class, beside those that a model knows."""

import logging
from dataclasses import replace
from difflib import get_close_matches

from retrain.dataset import class_folders
from retrain.errors import RetrainError
from retrain.model import find_classes, load_model
from retrain.options import TrainOptions
from retrain.recipes.collecting import collect
from retrain.recipes.training import options_of, train

ALIKE = 0.8  # two labels, of 1; a new one so like an old one is mistyped

log = logging.getLogger("retrain")


def add_class(query, name, data, model_dir, options):
    """Collect pictures of a class into `data/<name>`, and train the model anew with it.

    The other classes are the model's, or where there is none, the folders in `data`; without any nothing is trained.
    query: what to search for.  options: CrawlOptions.
    Returns {class: its pictures}, the sources that did not answer, and whether a model was trained.
    Raises RetrainError.
    """
    known = find_classes(model_dir)
    _require_new(name, known, data)
    others = known or [other for other in class_folders(data) if other != name]
    log.info("No model knows %s: pictures of it teach one.", name)
    counts, failures = collect({query: name}, data, options)
    if others:
        old = options_of(load_model(model_dir)) if known else TrainOptions()
        train(data, replace(old, model_dir=model_dir, only=(*others, name)))
    return counts, failures, bool(others)


def _require_new(name, known, data):
    """Raise RetrainError where a label is mistyped, or the pictures of the others are not there to learn it beside."""
    folders = class_folders(data)
    near = [] if name in folders else get_close_matches(name, known, cutoff=ALIKE)
    if near:
        hint = f"It has {', '.join(near)}. A folder {data / name} with pictures makes it a class of its own."
        raise RetrainError(f"the model has no label {name!r}.", hint)
    lost = [other for other in known if other not in folders]
    if lost:
        raise RetrainError(
            f"the model knows {', '.join(lost)}, of which {data} holds no pictures: it cannot be trained anew.",
            "Name the folder that it was trained on: --data FOLDER. Or leave the label out.",
        )
