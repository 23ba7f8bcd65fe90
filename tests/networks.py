"""Small networks of all kinds that users may bring, and hostile ones."""

import keras
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
WIDTH = 8


def kernel(seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, (3, 3, 3, WIDTH)).astype(np.float32)


def mean_of_map(images, weights):
    return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, weights, 2, "SAME")), (1, 2))


class Reusable(tf.Module):
    """A SavedModel as TensorFlow Hub wants it: called with images of 0-1."""

    def __init__(self, size=64, compute=mean_of_map):
        self.weights, self.compute = tf.Variable(kernel()), compute
        images = tf.TensorSpec((None, size, size, 3), tf.float32)
        self.__call__.get_concrete_function(images, training=False)
        self.__call__.get_concrete_function(images, training=True)

    @tf.function
    def __call__(self, images, training=False):
        outputs = self.compute(images, self.weights)
        return outputs * 100.0 if training else outputs


def save_reusable(folder, **options):
    tf.saved_model.save(Reusable(**options), str(folder))
    return folder


def save_signature_only(folder):
    """A SavedModel with signatures and nothing to call."""
    module = tf.Module()
    module.weights = tf.Variable(kernel())
    images = tf.TensorSpec((None, 64, 64, 3), tf.float32)
    serve = tf.function(lambda images: {"outputs": mean_of_map(images, module.weights)}, input_signature=[images])
    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    return folder


def save_tf1_module(folder, compute=mean_of_map, restore_from=None, names=("images", "default")):
    """A module of TensorFlow 1's Hub: signature `default` under no tag, and `tfhub_module.pb`."""
    entry, exit_ = names
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, 64, 64, 3))
        weights = v1.get_variable("weights", initializer=kernel())
        output = compute(images, weights)
        signature = v1.saved_model.signature_def_utils.build_signature_def(
            {entry: v1.saved_model.utils.build_tensor_info(images)},
            {exit_: v1.saved_model.utils.build_tensor_info(output)},
        )
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, [], signature_def_map={"default": signature})
        builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return folder


def change(folder, edit):
    """Rewrite a SavedModel's meta graphs by a function."""
    from tensorflow.core.protobuf import saved_model_pb2

    path, model = folder / "saved_model.pb", saved_model_pb2.SavedModel()
    model.ParseFromString(path.read_bytes())
    for meta in model.meta_graphs:
        edit(meta)
    path.write_bytes(model.SerializeToString())


def small_keras(*last, size=64, first=()):
    """Sequential Keras network: `first`, a convolution, the mean of its map, `last`."""
    layers = [*first, keras.layers.Conv2D(WIDTH, 3, 2, activation="relu"), keras.layers.GlobalAveragePooling2D(), *last]
    return keras.Sequential([keras.Input((size, size, 3)), *layers])
