"""tflite-int8: a LiteRT file whose networks compute in int8."""

from dataclasses import replace

import numpy as np

from retrain.backbones import Backbone
from retrain.exports import tflite

NEEDS = tflite.NEEDS
HOW = tflite.HOW.replace("float32 (1,", "uint8 (1,")
CODE = tflite.CODE.replace("np.float32", "np.uint8")


def write(subject, folder):
    model = replace(subject.model, backbones=[_in_int8(backbone) for backbone in subject.model.backbones])
    tflite.write(replace(subject, model=model), folder, np.uint8)


def run(folder):
    return tflite.run(folder, np.uint8)


def _in_int8(backbone):
    if backbone.spec.precision == "int8":
        return backbone
    from retrain.tf import quantize

    return Backbone(replace(backbone.spec, precision="int8", runtime="litert"), quantize(backbone))
