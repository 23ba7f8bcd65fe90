"""A model in float32: its networks in full precision, and its head fitted anew on what these say of its pictures."""

from dataclasses import replace

import numpy as np

from retrain.backbones import find_spec, load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import find_dataset, walk
from retrain.head import DEFAULT_C, fit_head, normalize
from retrain.model import learned_marks
from retrain.recipes.training import options_of, store_path

ENOUGH = 0.95  # share of the pictures learned; with fewer the head stays as it is


def find_pictures(model, model_dir, data=None):
    """{path: number of its class, or None} of pictures in `data`, else of those learned, where they were seen last.

    A class is told by the nearest folder above that bears its name.
    """
    if data is None:
        with Store(_store(model_dir)) as store:
            known = store.files()
        paths = [path for path, digest in known.items() if _is_learned(model, digest) and path.is_file()]
    else:
        paths = find_dataset(data).paths if model.head.kind == "softmax" else list(walk(data))
    numbers = {name: number for number, name in enumerate(model.classes)}
    return {path: next((numbers[each.name] for each in path.parents if each.name in numbers), None) for path in paths}


def in_float(model, model_dir, pictures):
    """The Model in float32, and what is told of its head: {"refitted", "why" it is not, "pictures" it was fitted on}.

    pictures: see `find_pictures`.  Only those that the model has learned count.  Its temperature stays.
    """
    backbones = [_in_float(backbone) for backbone in model.backbones]
    floated = replace(model, backbones=backbones)
    why = _why_not(model, backbones)
    if why:
        return floated, {"refitted": False, "why": why, "pictures": 0}
    paths = [path for path, label in pictures.items() if label is not None]
    with Store(_store(model_dir)) as store:
        embedded = embed_files(paths, backbones, store)
    labels = np.array([pictures[paths[row]] for row in embedded.kept], int)
    # Each once, in the order in which `train` has them.
    rows = {digest: row for row, digest in enumerate(embedded.digests) if _is_learned(model, digest)}
    order = sorted(rows.values(), key=lambda row: (labels[row], embedded.digests[row]))
    told = {"refitted": False, "pictures": len(order)}
    if len(order) < ENOUGH * len(model.learned) or len(set(labels[order])) < len(model.classes):
        return floated, told | {
            "why": f"{len(order)} of the {len(model.learned)} pictures learned are found; --data FOLDER names others"
        }
    embeddings, info = normalize(embedded.embeddings)[order], model.info
    strength, weighted = info.get("head", {}).get("C", DEFAULT_C), options_of(model).balance == "weight"
    head = fit_head(embeddings, labels[order], len(model.classes), strength, weighted)
    return replace(floated, head=head), told | {"refitted": True, "why": None}


def _why_not(model, backbones):
    """Why a head stays as it is; None where it is to be fitted anew."""
    if all(now is before for now, before in zip(backbones, model.backbones, strict=True)):
        return "it was trained on float32"
    if model.head.kind == "sigmoid":
        return "it tells several labels of a picture, which folders do not"
    if any(backbone.weights for backbone in backbones):
        return "a network that learned on has its part in it"
    return None


def _in_float(backbone):
    """A registered network in full precision; others as they are."""
    if backbone.spec.precision == "float32" or not backbone.spec.weights_package:
        return backbone
    return load_backbone(find_spec(f"{backbone.spec.name}-float32").name)


def _is_learned(model, digest):
    mark = learned_marks([digest])
    place = np.searchsorted(model.learned, mark)
    return bool(place[0] < len(model.learned) and model.learned[place[0]] == mark[0])


def _store(model_dir):
    """The store beside a model, where there is one."""
    path = store_path(model_dir)
    return path if path.exists() else None
