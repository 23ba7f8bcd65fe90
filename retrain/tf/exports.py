"""A model as a SavedModel, a `.keras` file and an ONNX file."""

import json

import keras
import numpy as np
import tensorflow as tf

from retrain.backbones.runner import no_chatter
from retrain.tf import pictures
from retrain.tf.safety import refuse_keras_file
from retrain.tf.whole import PIXELS, PROBABILITIES, freeze, square_side, whole

OPSET = 17  # of ONNX: what all of today's runtimes know


def write_saved_model(model, folder, labels):
    """Write a SavedModel.  labels: path of a file with a label a line, which is copied into it.

    Its signatures: `serving_default`, image_bytes string (N,), and `pixels`, float32 (N, S, S, 3) of 0-255; both give
    probabilities float32 (N, C) and label string (N,).
    """
    side, crop, frozen = square_side(model), model.backbones[0].spec.crop, freeze(model)
    names = tf.constant(labels.read_text("utf-8").split("\n")[:-1])

    def told(pixels):
        (found,) = tf.graph_util.import_graph_def(frozen, {f"{PIXELS}:0": pixels}, [f"{PROBABILITIES}:0"], name="")
        return {PROBABILITIES: found, "label": tf.gather(names, tf.argmax(found, axis=1))}

    def square(content):
        return pictures.to_square(tf.io.decode_jpeg(content, **pictures.DECODING), side, crop)[0]

    def serve(image_bytes):
        entry = tf.TensorSpec((side, side, 3), tf.float32)
        return run(tf.map_fn(square, image_bytes, fn_output_signature=entry))  # called, its weights are there once

    run = tf.function(told, input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32, PIXELS)])
    served = tf.function(serve, input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    signatures = {"serving_default": served.get_concrete_function(), PIXELS: run.get_concrete_function()}
    module = tf.Module()  # the functions are none of its own, or it would keep them, and the weights, twice
    module.labels = tf.saved_model.Asset(str(labels))
    tf.saved_model.save(module, str(folder), signatures)


def open_saved_model(folder):
    """What runs one: a function of pixels float32 (N, S, S, 3) of 0-255, and one of encoded pictures."""
    loaded = tf.saved_model.load(str(folder))

    def run(pixels):
        return loaded.signatures[PIXELS](pixels=tf.constant(pixels))[PROBABILITIES].numpy()

    def run_bytes(contents):
        return loaded.signatures["serving_default"](image_bytes=tf.constant(contents))[PROBABILITIES].numpy()

    return run, run_bytes


def write_keras_file(model, path):
    """Write a `.keras` file: pixels float32 (N, S, S, 3) of 0-255 → probabilities (N, C)."""
    side, classify = square_side(model), whole(model)
    pixels = keras.Input((side, side, 3), name=PIXELS)
    keras.Model(pixels, classify(pixels), name="retrain").save(path)


def open_keras_file(path):
    """What runs one, read as carefully as a stranger's."""
    refuse_keras_file(path)
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    return lambda pixels: np.asarray(model(pixels, training=False))


def write_onnx(model, path, described):
    """Write an ONNX file: `pixels` float32 (N, S, S, 3) of 0-255 → `probabilities` (N, C).

    described: goes into its metadata, each value as JSON.
    """
    import onnx
    from tf2onnx import convert

    with no_chatter():
        made, _ = convert.from_graph_def(
            freeze(model), "retrain", [f"{PIXELS}:0"], [f"{PROBABILITIES}:0"], opset=OPSET,
            tensors_to_rename={f"{PIXELS}:0": PIXELS, f"{PROBABILITIES}:0": PROBABILITIES},
        )  # fmt: skip
    onnx.helper.set_model_props(made, {key: json.dumps(value) for key, value in described.items()})
    onnx.save_model(made, path)
