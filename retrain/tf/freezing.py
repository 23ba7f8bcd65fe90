"""From a function to a file: LiteRT where it can be, else the frozen graph, which TensorFlow runs."""

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from retrain.backbones.runner import POOLED, LiteRTNetwork, no_chatter
from retrain.errors import RetrainError

TOLERANCE = 1e-3  # of the largest number in an embedding
PASSED_THROUGH = {"Identity", "Reshape", "Squeeze"}  # between the mean of a map and the output


def to_file(network, image_size, as_graph=False):
    """(content, suffix): the network with its feature map where it ends in the mean of one.

    network: images float32 (1, H, W, 3) of 0-255 → embeddings (1, D), or a feature map (1, h, w, D), which is averaged.
    content: bytes of a `.tflite`, or of a `.pb` (GraphDef) where LiteRT lacks an operation or computes something else,
    or where as_graph asks for it.
    """
    graph = _freeze(network, image_size)
    if as_graph:
        return _serialized(graph), ".pb"
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], graph)
    try:
        with no_chatter():
            content = converter.convert()
        if _computes_the_same(content, graph, image_size):
            return content, ".tflite"
    except Exception:  # noqa: S110 - the converter and LiteRT raise many kinds, all of which say that it cannot be
        pass
    return _serialized(graph), ".pb"


def _serialized(graph):
    return graph.graph.as_graph_def().SerializeToString(deterministic=True)


def _computes_the_same(content, graph, image_size):
    noise = np.random.default_rng(0).integers(0, 256, (1, image_size, image_size, 3)).astype(np.float32)
    (found,) = LiteRTNetwork(content).run(noise, [POOLED])
    expected = graph(tf.constant(noise))["embeddings"][0].numpy()
    return np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def _freeze(network, image_size):
    """Concrete function of constants only: images → {"embeddings", and "feature_map" where there is one}."""
    entry = tf.TensorSpec((1, image_size, image_size, 3), tf.float32, name="images")
    frozen = convert_variables_to_constants_v2(tf.function(network, input_signature=[entry]).get_concrete_function())
    if len(frozen.outputs) != 1:
        raise RetrainError(f"the network has {len(frozen.outputs)} outputs.", "Choose one with a single vector.")
    (output,) = frozen.outputs
    feature_map = _map_of(output)
    names = [output.name] if feature_map is None else [output.name, feature_map.name]

    def run(images):
        found = tf.graph_util.import_graph_def(
            frozen.graph.as_graph_def(), {frozen.inputs[0].name: images}, names, name="network"
        )
        return _outputs(*found)

    return tf.compat.v1.wrap_function(run, [entry])


def _outputs(output, feature_map=None):
    shape = output.shape
    if shape.num_elements() == shape[-1]:
        output = tf.reshape(output, (1, -1))  # such as (1, 1, 1, D)
    elif shape.rank == 4 and feature_map is None:
        feature_map, output = output, tf.reduce_mean(output, (1, 2))
    if output.shape.rank != 2 or None in output.shape.as_list() or output.dtype != tf.float32:
        raise RetrainError(
            f"the network ends in {output.dtype.name} {tuple(shape)}.", "Choose one that ends in float32 (1, D)."
        )
    outputs = {"embeddings": tf.identity(output, "embeddings")}
    if feature_map is not None:
        outputs["feature_map"] = tf.identity(feature_map, "feature_map")
    return outputs


def _map_of(output):
    """The tensor (1, h, w, D) whose mean over h and w an output is; None where it is none."""
    operation = output.op
    while operation.type in PASSED_THROUGH:
        operation = operation.inputs[0].op
    if operation.type != "Mean":
        return None
    averaged, axes = operation.inputs
    axes = tf.get_static_value(axes)
    if axes is None or sorted(int(axis) % averaged.shape.rank for axis in axes.ravel()) != [1, 2]:
        return None
    return averaged if averaged.shape.rank == 4 else None
