"""A whole model as one function of pixels, as exports need it: resizing, networks, normalization, head, temperature."""

import io
from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from retrain.backbones import find_spec
from retrain.errors import RetrainError
from retrain.images import resizing_kernel
from retrain.tf.convert import build_keras, prepare
from retrain.tf.graphs import read_graph

PIXELS, PROBABILITIES = "pixels", "probabilities"


def square_side(model):
    """px of the square that the networks see; smaller ones take it smaller."""
    return max(backbone.spec.image_size for backbone in model.backbones)


def whole(model):
    """The function of a Model in float32: pixels float32 (N, S, S, 3) of 0-255 → probabilities (N, C).

    S: `square_side`.  It takes tensors of TensorFlow, and of Keras where all networks are Keras', for it is made of
    Keras' own layers then.  Raises RetrainError where a network is there as a LiteRT file alone.
    """
    keras.config.set_dtype_policy("float32")
    side, count = square_side(model), len(model.backbones)
    parts = [(_resizing(side, backbone.spec.image_size), network(backbone)) for backbone in model.backbones]
    unit = layers.UnitNormalization()
    # Each network's embedding has its part of a vector of length 1.
    scale = 1 / (count**0.5 * model.temperature)
    activation = "softmax" if model.head.kind == "softmax" else "sigmoid"
    head = layers.Dense(len(model.classes), activation, name=PROBABILITIES)
    head.build((None, model.head.weights.shape[1]))
    head.set_weights([model.head.weights.T * np.float32(scale), model.head.intercept / np.float32(model.temperature)])

    def classify(pixels):
        embeddings = [unit(embed(resized(pixels))) for resized, embed in parts]
        return head(layers.Concatenate()(embeddings) if count > 1 else embeddings[0])

    return classify


def freeze(model):
    """GraphDef of constants alone: `pixels:0` float32 (N, S, S, 3) of 0-255 → `probabilities:0`; see `whole`."""
    side, classify = square_side(model), whole(model)
    entry = tf.TensorSpec((None, side, side, 3), tf.float32, name=PIXELS)
    called = tf.function(classify, input_signature=[entry]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(called, lower_control_flow=False)  # lowered, it cannot be imported
    with tf.Graph().as_default() as graph:
        pixels = tf.compat.v1.placeholder(tf.float32, entry.shape, PIXELS)
        (found,) = tf.graph_util.import_graph_def(
            frozen.graph.as_graph_def(), {frozen.inputs[0].name: pixels}, [frozen.outputs[0].name], name="model"
        )
        tf.identity(found, PROBABILITIES)
    return graph.as_graph_def()


def network(backbone):
    """Function of a Backbone in float32: pixels (N, H, W, 3) of 0-255 → embeddings (N, D)."""
    if backbone.spec.runtime == "tensorflow":
        return _of_graph(backbone)
    spec = float_spec(backbone)
    if spec is None:
        raise RetrainError(f"{backbone.spec.name} is there as a LiteRT file alone.", "Export tflite or zip.")
    built = _embedder(spec, backbone.weights()) if backbone.weights else _registered(spec)

    def embed(pixels):
        return built(_prepared(spec, pixels), training=False)

    return embed


@lru_cache(maxsize=3)
def _registered(spec):
    return _embedder(spec)


def _embedder(spec, weights=None):
    """Keras model: images as `prepare` leaves them → embeddings.  weights: bytes of an `.npz`; None: as published."""
    built = build_keras(spec)
    if weights is not None:
        _set_weights(built, spec, weights)
    output = built.output["embeddings"] if isinstance(built.output, dict) else built.output
    name = f"{'' if weights is None else 'fine_tuned_'}{spec.architecture}_{spec.image_size}".replace("-", "_")
    return keras.Model(built.input, output, name=name)


def _set_weights(built, spec, weights):
    try:
        with np.load(io.BytesIO(weights), allow_pickle=False) as arrays:
            built.set_weights([arrays[f"arr_{number}"] for number in range(len(arrays))])
    except Exception as error:  # damaged content may raise anything
        raise RetrainError(f"the weights that {spec.name} has learned are damaged: {error}.", "Train again.") from error


def float_spec(backbone):
    """Registered BackboneSpec, in full precision, that a Backbone can be rebuilt from; None where there is none."""
    name = backbone.spec.name
    if backbone.weights:
        name = name.removesuffix("-fine-tuned")
    elif not backbone.spec.weights_package:
        return None
    spec = find_spec(name)
    return spec if spec.precision == "float32" else find_spec(f"{name}-float32")


def _prepared(spec, pixels):
    if spec.weights_package == "keras":
        return prepare(spec, pixels)
    return layers.Rescaling(1 / spec.scale, -spec.mean / spec.scale)(pixels)


def _of_graph(backbone):
    graph = read_graph(backbone.spec, backbone.content)

    def one(pixels):
        (found,) = tf.graph_util.import_graph_def(graph, {"images:0": pixels[None]}, ["embeddings:0"], name="")
        return found[0]

    def embed(pixels):
        if not isinstance(pixels, tf.Tensor):
            raise RetrainError(f"{backbone.spec.name} is no network of Keras.", "Export saved_model, onnx, pb or zip.")
        spec = tf.TensorSpec((backbone.spec.embedding_size,), tf.float32)
        return tf.map_fn(one, pixels, fn_output_signature=spec)  # it takes one picture

    return embed


def _resizing(before, after):
    """Function that brings pixels (N, before, before, 3) to (N, after, after, 3) as Pillow does, bicubically."""
    if before == after:
        return lambda pixels: pixels
    kernel = resizing_kernel(before, after)
    dense = [layers.Dense(after, use_bias=False, trainable=False) for _ in range(2)]
    for layer in dense:
        layer.build((None, before))
        layer.set_weights([kernel])
    # The last axis is the width, then the height.
    turns = [layers.Permute(axes) for axes in ((1, 3, 2), (3, 2, 1), (3, 1, 2))]

    def resized(pixels):
        return turns[2](dense[1](turns[1](dense[0](turns[0](pixels)))))

    return resized
