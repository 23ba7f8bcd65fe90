"""Embed many pictures at once on GPUs, in half precision."""

import keras
import numpy as np

from retrain.tf import devices
from retrain.tf.convert import build_keras, prepare

BATCH = 128


class Embedder:
    """A registered network on all GPUs."""

    def __init__(self, spec):
        self.spec = spec
        with devices.strategy().scope():
            model = build_keras(spec)
            embeddings = model.output["embeddings"] if isinstance(model.output, dict) else model.output
            self._model = keras.Model(model.input, embeddings)
        self._batch = BATCH

    def __call__(self, images):
        """images: uint8 (n, H, W, 3).  Returns embeddings float32 (n, D)."""
        prepared = np.asarray(prepare(self.spec, images.astype(np.float32)), np.float32)
        found, self._batch = devices.predict(self._model, prepared, self._batch)
        return found.astype(np.float32)
