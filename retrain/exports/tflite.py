"""tflite: a LiteRT file in float32."""

import numpy as np

from retrain.exports.joining import PIXELS, PROBABILITIES, join
from retrain.exports.metadata import metadata, pack

FILE = "model.tflite"

NEEDS = "`pip install ai-edge-litert numpy pillow`"
HOW = """\
It takes one square float32 (1, $side, $side, 3) of 0-255, and gives probabilities (1, $classes) in the order of
`labels.txt`. Labels and normalization are inside as LiteRT metadata, for Android Studio and for MediaPipe's
`ImageClassifier`, which takes the file as it is. Crop pictures for it before: it looks at the whole of them.
"""
CODE = """\
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

classify = Interpreter("model.tflite").get_signature_runner()
$square
scores = classify(pixels=np.float32([square]))["probabilities"][0]
$show"""


def write(subject, folder, dtype=np.float32):
    content = join(subject.model, subject.described["image_size"], dtype, metadata(subject.described))
    (folder / FILE).write_bytes(pack(content, subject.labels))


def run(folder, dtype=np.float32):
    from ai_edge_litert.interpreter import Interpreter

    from retrain.backbones.runner import no_chatter

    with no_chatter():
        classify = Interpreter(str(folder / FILE), num_threads=1).get_signature_runner()

    def run_all(pixels):
        return np.concatenate([classify(**{PIXELS: each[None].astype(dtype)})[PROBABILITIES] for each in pixels])

    return run_all
