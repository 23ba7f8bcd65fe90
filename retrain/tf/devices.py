"""What TensorFlow computes on."""

import logging

import keras
import numpy as np
import tensorflow as tf

from retrain.backbones.gpu import has_card

log = logging.getLogger("retrain")

SMALLEST_BATCH = 1


def find_gpus():
    """The GPUs that TensorFlow can use; a warning where there is a card and it can use none."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus and has_card():
        log.warning("There is a GPU that TensorFlow cannot use: this takes the CPU. retrain doctor says why.")
    return gpus


def strategy():
    """How work is shared: among all GPUs where there are several.  With any, layers compute in half precision."""
    gpus = find_gpus()
    keras.config.set_dtype_policy("mixed_float16" if gpus else "float32")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def fitting_batch(work, batch):
    """Result of work(batch) with the largest batch that memory holds, found by halving; and that batch."""
    while True:
        try:
            return work(batch), batch
        except tf.errors.ResourceExhaustedError:
            if batch <= SMALLEST_BATCH:
                raise
            batch //= 2
            log.info("The memory of the device is too small: batches of %d.", batch)


def predict(model, rows, batch):
    """What a Keras model says of rows (n, ...), shared among its GPUs; and the batch that memory held."""
    return fitting_batch(
        lambda batch: model.predict(filled(rows, batch), batch_size=batch, verbose=0)[: len(rows)], batch
    )


def filled(rows, batch):
    """Rows (n, ...) and so many zeros that all batches are of one size: else TensorFlow traces a network anew."""
    return np.pad(rows, [(0, -len(rows) % batch), *[(0, 0)] * (rows.ndim - 1)])
