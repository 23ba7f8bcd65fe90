"""Work that is shared among devices, and devices that cannot do it.  Two halves of the CPU stand in for two GPUs."""

import json
import subprocess
import sys

import pytest
from marks import NEEDS_TENSORFLOW

pytestmark = NEEDS_TENSORFLOW

TWO_DEVICES = """
import json, sys, time
from functools import partial
from pathlib import Path
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.distribute.MirroredStrategy = partial(tf.distribute.MirroredStrategy, ["CPU:0", "CPU:1"])

from retrain.backbones import load_backbone
from retrain.head import fit_head, normalize
from retrain.tf import devices, embedding, fine_tuning

devices.find_gpus = lambda: ["GPU:0", "GPU:1"]
embedding.BATCH = fine_tuning.BATCH = 4
fine_tuning.EPOCHS = 2
backbone = load_backbone("efficientnet-lite0-float32")
photos = [Image.fromarray(photo) for photo in load_sample_images().images]
images = np.stack([backbone.to_input(photo.crop((x, 0, x + 300, 300))) for photo in photos for x in (0, 200, 300)])
images = np.concatenate([images, images[:1]])  # 7 are no multiple of a batch
labels, weights = np.array([0, 0, 0, 1, 1, 1, 0]), np.ones(7, np.float32)

found = normalize([embedding.Embedder(backbone.spec)(images)])
tuner = fine_tuning.Tuner(backbone.spec)
activations = tuner.activate(images)
views = np.repeat(activations[:, None], 2, axis=1)
settings = {"seed": 0, "deadline": time.monotonic() + 600, "log_dir": None}
start = fit_head(normalize([tuner.embed(activations)]), labels, 2, 3.0)
fitted = tuner.fit((views, labels, weights), (activations, labels, weights), start, Path(sys.argv[1]), settings)
print(json.dumps({
    "devices": tuner.strategy.num_replicas_in_sync,
    "half precision": [layer.compute_dtype for layer in tuner.upper.layers][-1],
    "cosines": (found * normalize([backbone.embed(images)])).sum(axis=1).tolist(),
    "history": fitted[1],
    "suffix": tuner.to_file()[1],
}))
"""


@pytest.fixture(scope="module")
def shared_work(tmp_path_factory):
    run = [sys.executable, "-c", TWO_DEVICES, tmp_path_factory.mktemp("tuned")]
    return json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def test_embeddings_of_several_devices_in_half_precision_are_those_of_the_cpu(shared_work):
    assert (shared_work["devices"], shared_work["half precision"]) == (2, "float16")
    assert len(shared_work["cosines"]) == 7
    assert min(shared_work["cosines"]) > 0.99


def test_several_devices_learn_together(shared_work):
    first, last = shared_work["history"]
    assert last["val_loss"] < first["val_loss"]
    assert shared_work["suffix"] == ".tflite"


def test_card_that_tensorflow_cannot_use_is_never_passed_over_in_silence(monkeypatch, caplog):
    from retrain.tf import devices

    monkeypatch.setattr(devices, "has_card", lambda: True)
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: [])
    devices.strategy()
    assert "There is a GPU that TensorFlow cannot use" in caplog.text
    caplog.clear()
    monkeypatch.setattr(devices, "has_card", lambda: False)
    devices.strategy()
    assert not caplog.text


def test_batches_are_halved_until_memory_holds_them():
    from retrain.tf import devices

    asked = []

    def work(batch):
        asked.append(batch)
        if batch > 5:
            raise devices.tf.errors.ResourceExhaustedError(None, None, "too much")
        return "done"

    assert devices.fitting_batch(work, 32) == ("done", 4)
    assert asked == [32, 16, 8, 4]
    with pytest.raises(devices.tf.errors.ResourceExhaustedError):
        devices.fitting_batch(lambda batch: work(99), 2)
