"""keras: a `.keras` file of Keras' own layers, which loads in safe mode."""

FILE = "model.keras"

NEEDS = "`pip install keras tensorflow pillow`"
HOW = """\
It takes squares float32 (N, $side, $side, 3) of 0-255, and gives probabilities (N, $classes) in the order of
`labels.txt`.
"""
CODE = """\
import sys

import keras
import numpy as np
from PIL import Image, ImageOps

model = keras.saving.load_model("model.keras")
$square
scores = np.asarray(model(np.float32([square])))[0]
$show"""


def write(subject, folder):
    from retrain.tf import write_keras_file

    write_keras_file(subject.model, folder / FILE)


def run(folder):
    from retrain.tf import open_keras_file

    return open_keras_file(folder / FILE)
