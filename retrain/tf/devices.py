"""What TensorFlow computes on."""

import logging
from pathlib import Path

import keras
import tensorflow as tf

log = logging.getLogger("retrain")

SMALLEST_BATCH = 1
NVIDIA_DEVICE = Path("/dev/nvidia0")


def strategy():
    """How work is shared: among all GPUs where there are several.  With any, layers compute in half precision."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus and NVIDIA_DEVICE.exists():
        log.warning("There is a GPU that TensorFlow cannot use: this takes the CPU. retrain doctor says why.")
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
