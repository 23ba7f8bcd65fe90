"""A model in float32: its networks in full precision, and its head fitted to what these say of its pictures."""

from dataclasses import replace

import numpy as np

from retrain.backbones import find_spec, load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import require_folder, walk
from retrain.head import Head, normalize
from retrain.model import learned_marks
from retrain.recipes.training import store_path

FEWEST = 20  # pictures; with fewer the head stays as it is
MOST = 5_000  # pictures; more change nothing
STIFFNESS = 0.1  # how little the weights may move; chosen by agreement with the model on photos not learned


def find_pictures(model, model_dir, data=None):
    """Paths of pictures in `data`, else of those that a Model has learned, where they were seen last."""
    if data:
        return list(walk(require_folder(data)))
    with Store(_store(model_dir)) as store:
        known = store.files()
    return [path for path, digest in known.items() if _is_learned(model, digest) and path.is_file()]


def in_float(model, model_dir, pictures):
    """The Model in float32, and of its head {"refitted", "pictures" that it was fitted to, "why" it was not}."""
    backbones = [_in_float(backbone) for backbone in model.backbones]
    floated = replace(model, backbones=backbones)
    if all(now is before for now, before in zip(backbones, model.backbones, strict=True)):
        return floated, _told(0, "it was trained on these networks")
    with Store(_store(model_dir)) as store:
        embedded = embed_files(spread(pictures, MOST), [*model.backbones, *backbones], store)
    if len(embedded.kept) < FEWEST:
        return floated, _told(0, _too_few(len(embedded.kept)))
    count = len(backbones)
    before, now = normalize(embedded.embeddings[:count]), normalize(embedded.embeddings[count:])
    return replace(floated, head=_refit(model.head, before, now)), _told(len(embedded.kept))


def spread(items, most):
    """At most so many items of a list, as far from one another as can be: one beside another are of one class."""
    count = min(len(items), most)
    return [items[number * len(items) // count] for number in range(count)]


def _too_few(found):
    what = f"only {found} pictures are found, and it takes {FEWEST}" if found else "its pictures are not found"
    return f"{what}; --data FOLDER names others"


def _told(pictures, why=None):
    return {"refitted": why is None, "pictures": pictures, "why": why}


def _refit(head, before, now):
    """The Head nearest to another that says of embeddings `now` (n, D) what that one says of `before`.

    Labels have no part in it: fitted to them anew, a head guesses no better, and other than the model more often.
    """
    wanted = (before - now) @ head.weights.T
    stiffness = STIFFNESS * np.eye(min(now.shape), dtype=np.float64)
    # Ridge regression of the change, by whichever of both equations is the smaller one.
    if len(now) < now.shape[1]:
        change = now.T @ np.linalg.solve(now @ now.T + stiffness, wanted)
    else:
        change = np.linalg.solve(now.T @ now + stiffness, now.T @ wanted)
    return Head((head.weights + change.T).astype(np.float32), head.intercept, head.thresholds)


def _in_float(backbone):
    """A registered network in full precision; others as they are."""
    if backbone.spec.precision == "float32" or not backbone.spec.weights_package:
        return backbone
    return load_backbone(find_spec(f"{backbone.spec.name}-float32").name)


def _is_learned(model, digest):
    (mark,) = learned_marks([digest])
    place = np.searchsorted(model.learned, mark)
    return bool(place < len(model.learned) and model.learned[place] == mark)


def _store(model_dir):
    """The store beside a model, where there is one."""
    path = store_path(model_dir)
    return path if path.exists() else None
