"""onnx: an ONNX file."""

from importlib.util import find_spec

from retrain.errors import RetrainError

FILE = "model.onnx"

NEEDS = "`pip install onnxruntime numpy pillow`"
HOW = """\
It takes squares, `pixels` float32 (N, $side, $side, 3) of 0-255, and gives `probabilities` (N, $classes) in the order
of `labels.txt`. The file's metadata hold labels and preprocessing, too.
"""
CODE = """\
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
$square
(scores,) = session.run(["probabilities"], {"pixels": np.float32([square])})[0]
$show"""


def write(subject, folder):
    for package in ("tf2onnx", "onnxruntime"):
        if not find_spec(package):
            raise RetrainError(f"this needs {package}, which is not installed.", "pip install 'retrain[onnx]'.")
    from retrain.tf import write_onnx

    write_onnx(subject.model, folder / FILE, subject.described)


def run(folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["probabilities"], {"pixels": pixels})[0]
