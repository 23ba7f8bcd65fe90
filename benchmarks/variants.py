"""Ways to turn a picture into an embedding, which `frontier` compares: networks, and what is taken of them.

A variant is written as its parts, joined by +, which stand side by side in the embedding.  A part is `lite0`, `lite1`
or `lite2`, and after it, if need be, another size in px, `float32`, `flips` (the mean of the picture and its mirror
image) or `layers` (three intermediate layers beside the last, each pooled): `lite0-256+lite2-flips`.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np

from retrain.backbones import Backbone, find_spec
from retrain.backbones.files import find_cached, keep, network_file
from retrain.bottlenecks import Kind

LAYERS = 3


def kinds_of(parts):
    """{part: the Kind that embeds so}.  Networks that are not there yet are built, which needs TensorFlow."""
    # Elsewhere, because building leaves TensorFlow in memory.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        paths = pool.map(_network_file, map(_spec, parts))
        return {part: _kind(part, path.read_bytes()) for part, path in zip(parts, paths, strict=True)}


def is_shipped(part):
    return bool(_spec(part).shipped_sha256)


def _spec(part):
    base, *changes = part.split("-")
    spec = find_spec(f"efficientnet-{base}{'-float32' * ('float32' in changes)}")
    size = next((int(change) for change in changes if change.isdigit()), spec.image_size)
    if size == spec.image_size and "layers" not in changes:
        return spec
    name = f"{spec.name}-{size}px{'-layers' * ('layers' in changes)}"
    return replace(spec, name=name, image_size=size, shipped_sha256="")


def _network_file(spec):
    registered = find_spec(spec.architecture), find_spec(f"{spec.architecture}-float32")
    return network_file(spec) if spec in registered else find_cached(spec) or keep(spec, _convert(spec))


def _convert(spec):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from retrain.tf.convert import build_keras, convert

    return convert(spec, _with_layers(build_keras(spec)) if spec.name.endswith("-layers") else None)


def _with_layers(model):
    """The model with intermediate layers, pooled, in the place of its feature map."""
    import keras

    ends = {layer.output.shape: layer.output for layer in model.layers if isinstance(layer, keras.layers.Add)}
    pooled = [keras.layers.GlobalAveragePooling2D(keepdims=True)(end) for end in list(ends.values())[-LAYERS:]]
    beside = keras.layers.Concatenate()(pooled)
    return keras.Model(model.input, {"embeddings": model.output["embeddings"], "feature_map": beside})


def _kind(part, content):
    backbone, change = Backbone(_spec(part), content), part.rpartition("-")[2]
    make, size = _MAKERS.get(change, _pooled), backbone.spec.embedding_size
    if change == "layers":
        side = backbone.spec.image_size
        size = len(make(backbone, np.zeros((side, side, 3), np.uint8)))
    name = f"{backbone.fingerprint}:{make.__name__}"
    return Kind(name, np.float32, size, lambda image: make(backbone, backbone.to_input(image)))


def _pooled(backbone, pixels):
    return backbone.embed(pixels[None])[0]


def _flips(backbone, pixels):
    return backbone.embed(np.stack([pixels, pixels[:, ::-1]])).mean(axis=0)


def _layers(backbone, pixels):
    embedding, beside = backbone.look(pixels)
    both = embedding, beside.ravel()
    return np.concatenate([part / max(float(np.linalg.norm(part)), 1e-12) for part in both])


_MAKERS = {"flips": _flips, "layers": _layers}
