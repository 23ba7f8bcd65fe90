"""Embed on a GPU, many pictures at once, where there is one and there are so many pictures that it pays."""

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrain.backbones.registry import find_spec
from retrain.errors import RetrainError

ENOUGH = 500  # pictures; of fewer a CPU is done before TensorFlow has begun
SAME = 1e-2  # cosine distance between what GPU and CPU say of a picture; half precision has some 1e-5

log = logging.getLogger("retrain")


def has_card():
    """Whether this machine gives an NVIDIA card to its programs; TensorFlow may be unable to use it."""
    windows = Path("/usr/lib/wsl/lib/libcuda.so.1")  # its Linux has the card behind another device
    return any(Path("/dev").glob("nvidia[0-9]*")) or windows.exists()


def open_embedder(backbone, pictures):
    """Function of images uint8 (n, H, W, 3) → embeddings float32 (n, D) in half precision; None where the CPU does it.

    int8 is for CPUs, and of networks that users bring there is no more than a file for these.
    """
    if pictures < ENOUGH or not has_card() or not computes_on_gpu(backbone.spec):
        return None
    if importlib.util.find_spec("tensorflow") is None:
        log.warning("There is a GPU, but no TensorFlow to use it: this takes the CPU. make setup-full installs it.")
        return None
    from retrain.tf import open_embedder

    embed = open_embedder(backbone.spec)
    if embed and not _agree(embed, backbone):
        log.warning("The GPU computes something else than %s does on the CPU, which is used.", backbone.spec.name)
        return None
    return embed


def computes_on_gpu(spec):
    """Whether a GPU can: a network in full precision that is what its name says, also in a stranger's model."""
    try:
        return spec.precision == "float32" and replace(spec, runtime="litert") == find_spec(spec.name)
    except RetrainError:
        return False


def _agree(embed, backbone):
    size = backbone.spec.image_size
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    (found,), (expected,) = embed(noise), backbone.embed(noise)
    return found @ expected >= (1 - SAME) * np.linalg.norm(found) * np.linalg.norm(expected)
