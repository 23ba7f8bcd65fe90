"""Where a backbone's file is: in this package, in the container image, or built once into the user's cache."""

import hashlib
import io
import re
import sys
import tempfile
from contextlib import suppress
from importlib import resources
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from retrain.errors import RetrainError, writing_to

BUILD_VERSION = 1  # bump when the same weights are built into another file
SHIPPED = resources.files("retrain.backbones") / "shipped"
GENERIC_MEANS = "generic-means.npz"
GENERIC_MEANS_SHA256 = "66d8f10cbdafcc92bbe136ca6a0126fbee700ec1db7dc288c5e3160857672ee9"
INSTALLED = Path(sys.prefix) / "share/retrain/backbones"  # built into a container image


def cache_folder():
    return user_cache_path("retrain", appauthor=False) / "backbones"


def network_file(spec):
    """Path of the file of a spec, checked against its sha256; built with TensorFlow where there is none yet.

    Its name ends in .tflite, or in .pb where the network cannot be converted to LiteRT.
    """
    if spec.shipped_sha256:
        shipped(f"{spec.name}.tflite", spec.shipped_sha256)
        return SHIPPED / f"{spec.name}.tflite"
    return find_cached(spec) or build(spec)


def shipped(name, sha256):
    """Bytes of a file inside this package.  Raises RetrainError where they are others than they were made."""
    path = SHIPPED / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RetrainError(f"{path} is missing or damaged.", "Install retrain again.")
    return content


def generic_mean(spec):
    """Mean of `retrain.unknown.features` over photos of all sorts of things, float32 (D,), of a shipped backbone.

    `python -m benchmarks.generic_means` makes the file.
    """
    with np.load(io.BytesIO(shipped(GENERIC_MEANS, GENERIC_MEANS_SHA256)), allow_pickle=False) as means:
        return means[spec.name].astype(np.float32)


def find_cached(spec):
    """Path of the built file, or None.  Each carries a prefix of its own sha256 in its name."""
    for folder in (INSTALLED, cache_folder()):
        for path in sorted(folder.glob(f"{_stem(spec)}.*")):
            with suppress(OSError):
                if path.name == _cached_name(spec, path.read_bytes(), path.suffix):
                    return path
    return None


def build(spec):
    """Build the file from the published weights into the cache.  Raises RetrainError without TensorFlow."""
    from retrain.tf import convert_published

    return keep(spec, *convert_published(spec))


def keep(spec, content, suffix=".tflite"):
    """Write what was built into the cache.  Returns its path."""
    folder = cache_folder()
    with writing_to(f"the cache folder {folder}", "Set XDG_CACHE_HOME to a writable folder."):
        folder.mkdir(parents=True, exist_ok=True)
        # Under a name of its own first: two processes may build at once, and each must find whole files only.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            path = Path(scratch) / "new"
            path.write_bytes(content)
            return path.rename(folder / _cached_name(spec, content, suffix))


def _stem(spec):
    weights = spec.source_sha256[:16] or Path(spec.weights_file).stem.rpartition("-")[2]
    return f"{re.sub(r'[^A-Za-z0-9.=-]+', '-', spec.name)}-{weights}-v{BUILD_VERSION}"


def _cached_name(spec, content, suffix):
    return f"{_stem(spec)}.{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
