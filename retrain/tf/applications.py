"""The networks of keras.applications, with their published weights and their own preprocessing."""

import socket
import sys
from contextlib import contextmanager, redirect_stdout
from unittest.mock import patch

import keras
from keras.src.backend import config
from keras.src.utils import file_utils

from retrain.errors import RetrainError

TIMEOUT_S = 30.0  # of a connection and between two bytes; Keras itself would wait for ever


def build(spec, weights="imagenet"):
    """Keras model: images float32 (N, H, W, 3), as `preprocess` leaves them → embeddings (N, D).

    The weights come out of Keras' cache or from its server, held against the hash in its code.
    """
    make = getattr(keras.applications, spec.architecture)
    with _clear_errors(spec), redirect_stdout(sys.stderr):  # Keras shows its progress where our results go
        return make(
            include_top=False, weights=weights, pooling="avg", input_shape=(spec.image_size, spec.image_size, 3)
        )


def preprocess(spec, images):
    """images float32 (N, H, W, 3) of 0-255 as the network of a spec wants them; some have that inside."""
    make = getattr(keras.applications, spec.architecture)
    return sys.modules[make.__module__].preprocess_input(images, data_format="channels_last")


@contextmanager
def _clear_errors(spec):
    """Turn what goes wrong with the weights into a RetrainError that says which file to bring where."""
    asked: list = []
    fetch, timeout = file_utils.get_file, socket.getdefaulttimeout()

    def get_file(name, origin, **options):
        asked[:] = [name, origin, options.get("file_hash")]
        return fetch(name, origin, **options)

    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        with patch.object(file_utils, "get_file", get_file):
            yield
    except Exception as error:  # Keras raises bare ones
        if not asked:
            raise RetrainError(f"{spec.name} cannot be built: {error}.", "Leave ,size= out.") from error
        name, origin, digest = asked
        hashed = f"{'sha256' if len(digest) == 64 else 'md5'} {digest}" if digest else "Keras knows no hash of it"
        raise RetrainError(
            f"the weights of {spec.name} cannot be had: {error}.",
            f"Fetch {origin} elsewhere, and bring it to {config.keras_home()}/models/{name} ({hashed}).",
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
