"""saved_model: a SavedModel, in the folders that TF Serving looks for."""

from retrain.exports.metadata import LABELS

PLACE = "models/retrain/1"

NEEDS = "`pip install tensorflow`"
HOW = """\
Two signatures: `serving_default` takes the bytes of picture files, `image_bytes` string (N,), JPEG or PNG;
`pixels` takes squares, `pixels` float32 (N, $side, $side, 3) of 0-255. Both give `probabilities` float32 (N, $classes)
and the best `label`, string (N,). TF Serving takes the folder `models` as it is; the model's name there is `retrain`.
"""
CODE = """\
import sys

import tensorflow as tf

model = tf.saved_model.load("models/retrain/1")
with open(sys.argv[1], "rb") as picture:
    found = model.signatures["serving_default"](image_bytes=tf.constant([picture.read()]))
scores = found["probabilities"][0].numpy()
$show"""


def write(subject, folder):
    from retrain.tf import write_saved_model

    labels = folder / LABELS
    labels.write_text(subject.labels, "utf-8")
    write_saved_model(subject.model, folder / PLACE, labels)


def run(folder):
    from retrain.tf import open_saved_model

    return open_saved_model(folder / PLACE)[0]


def run_bytes(folder):
    from retrain.tf import open_saved_model

    return open_saved_model(folder / PLACE)[1]
