"""Grad-CAM: the class activation map of networks whose head does not see the mean of the last feature map."""

from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf

from retrain.tf.convert import build_keras, prepare


def gradient_map(spec, pixels, weights):
    """What each place of a picture adds to a class's logit, by the gradient at the last activation of four dimensions.

    pixels: uint8 (H, W, 3).  weights: float32 (D,), of the class, for embeddings of length 1.  Returns float32 (h, w),
    before the ReLU, scaled so that it is the class activation map where the network ends in a mean.  The length of the
    embedding counts as a constant there.  Selvaraju et al. 2017, arXiv:1610.02391.
    """
    model = _ending_in_map(spec)
    images = tf.constant(prepare(spec, pixels[None].astype(np.float32)))
    with tf.GradientTape() as tape:
        tape.watch(images)
        feature_map, embeddings = model(images, training=False)
        logit = tf.tensordot(embeddings[0] / tf.stop_gradient(tf.norm(embeddings[0])), weights, 1)
    importance = tf.reduce_sum(tape.gradient(logit, feature_map)[0], axis=(0, 1))
    return tf.tensordot(feature_map[0], importance, 1).numpy()


@lru_cache(maxsize=2)
def _ending_in_map(spec):
    """Keras model: images → last activation of four dimensions, embeddings."""
    model = build_keras(spec)
    (embeddings,) = [output for output in model.outputs if len(output.shape) == 2]
    feature_map = [layer.output for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4][-1]
    return keras.Model(model.inputs, [feature_map, embeddings])
