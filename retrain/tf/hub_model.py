"""The SavedModel that the original retrain.py wrote, by the names of its signature."""

import tensorflow as tf

from retrain.tf.whole import PIXELS, PROBABILITIES, freeze, square_side


def write(model, folder):
    """Write a Model as a SavedModel.

    `serving_default` takes `image`, float32 (N, S, S, 3) of 0-1, and gives `prediction`, float32 (N, C).
    """
    graph, side = freeze(model), square_side(model)

    def predict(image):
        (found,) = tf.graph_util.import_graph_def(
            graph, {f"{PIXELS}:0": image * 255.0}, [f"{PROBABILITIES}:0"], name="model"
        )
        return {"prediction": found}

    entry = tf.TensorSpec((None, side, side, 3), tf.float32, name="image")
    module = tf.Module()
    module.predict = tf.function(predict, input_signature=[entry])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
