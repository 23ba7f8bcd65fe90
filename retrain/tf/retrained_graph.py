"""`retrained_graph.pb`: the frozen graph that programs written for TensorFlow 1 load, by the names that they know."""

import numpy as np
import tensorflow as tf

from retrain.errors import RetrainError
from retrain.tf import pictures
from retrain.tf.whole import PIXELS, PROBABILITIES, freeze, square_side

v1 = tf.compat.v1
MEAN = SCALE = 128.0  # what those programs are called with: --input_mean 128 --input_std 128


def build(model, final_tensor_name, described=""):
    """Bytes of a GraphDef of a Model.

    Fed is one of `DecodeJpeg/contents:0` (the bytes of a JPEG), `DecodeJpeg:0` (uint8 (H, W, 3)), and float32
    (N, S, S, 3): `Placeholder:0` of 0-1, `Mul:0` and `input:0` of (pixel - 128) / 128.  Fetched is
    `<final_tensor_name>:0`, float32 (N, C).  described: text kept in the node `retrain`.
    """
    side, crop = square_side(model), model.backbones[0].spec.crop
    whole = freeze(model)
    with tf.Graph().as_default() as graph:
        # Each has a default, so that what comes before it need not be fed.
        shape = (None, side, side, 3)
        contents = v1.placeholder(tf.string, (), "DecodeJpeg/contents")
        image = tf.io.decode_jpeg(contents, name="DecodeJpeg", **pictures.DECODING)
        with tf.name_scope("scaling"):  # else one of its own nodes is the "mul" beside which there can be no "Mul"
            square = pictures.to_square(image, side, crop) / 255.0
        unit = v1.placeholder_with_default(square, shape, "Placeholder")
        with tf.name_scope("centring"):
            centred = (unit * 255.0 - MEAN) / SCALE
        entry = v1.placeholder_with_default(centred, shape, "Mul")
        entry = v1.placeholder_with_default(entry, shape, "input")
        with tf.name_scope("pixels"):
            pixels = entry * SCALE + MEAN
        (found,) = tf.graph_util.import_graph_def(whole, {f"{PIXELS}:0": pixels}, [f"{PROBABILITIES}:0"], name="whole")
        tf.constant(described, name="retrain")
        if tf.identity(found, final_tensor_name).op.name != final_tensor_name:
            raise RetrainError(f"the graph has a {final_tensor_name!r} already.", "Give its end another name.")
    return graph.as_graph_def().SerializeToString(deterministic=True)


def open_graph(content, final_tensor_name):
    """What runs such a graph: a function of pixels float32 (N, S, S, 3) of 0-255, and one of encoded pictures."""
    graph = tf.Graph()
    with graph.as_default():
        definition = v1.GraphDef()
        definition.ParseFromString(content)
        tf.graph_util.import_graph_def(definition, name="")
    session, result = v1.Session(graph=graph), f"{final_tensor_name}:0"

    def run(pixels):
        return session.run(result, {"input:0": (pixels - MEAN) / SCALE})

    def run_bytes(pictures):
        return np.concatenate([session.run(result, {"DecodeJpeg/contents:0": each}) for each in pictures])

    return run, run_bytes
