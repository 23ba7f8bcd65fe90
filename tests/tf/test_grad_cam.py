"""Grad-CAM beside the class activation map, which it has to be on networks that end in a mean."""

import numpy as np
import pytest
from marks import NEEDS_TENSORFLOW
from PIL import Image

import retrain.tf
from retrain.backbones import Backbone, find_spec, load_backbone
from retrain.explain import class_map
from retrain.head import Head
from retrain.model import Model

pytestmark = NEEDS_TENSORFLOW
SPEC = find_spec("efficientnet-lite0")
WEIGHTS = np.random.default_rng(0).normal(size=1280).astype(np.float32)


@pytest.fixture(scope="module")
def photo():
    from sklearn.datasets import load_sample_images

    return Image.fromarray(load_sample_images().images[1])


def model_of(backbone):
    return Model(["a"], [backbone], Head(WEIGHTS[None], np.zeros(1, np.float32)))


def correlation(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def test_gradient_is_the_class_activation_map_of_the_same_network(photo):
    from retrain.tf.convert import build_keras

    backbone = load_backbone(SPEC.name)
    pixels = backbone.to_input(photo)
    outputs = build_keras(SPEC)((pixels[None].astype(np.float32) - SPEC.mean) / SPEC.scale, training=False)
    feature_map, embedding = np.array(outputs["feature_map"])[0], np.array(outputs["embeddings"])[0]
    expected = feature_map @ WEIGHTS / np.linalg.norm(embedding)
    found = retrain.tf.gradient_map(SPEC, pixels, WEIGHTS)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(np.abs(expected).max()))
    # The shipped file counts in int8.
    assert correlation(found, class_map(model_of(backbone), photo, 0)) > 0.9


def test_network_that_gives_no_map_goes_by_its_gradient(photo):
    import tensorflow as tf

    from retrain.tf.convert import build_keras

    network = build_keras(SPEC)
    module = tf.Module()
    signature = [tf.TensorSpec((1, SPEC.image_size, SPEC.image_size, 3), tf.float32)]
    module.run = tf.function(lambda images: network(images, training=False)["embeddings"], input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    backbone = Backbone(SPEC, converter.convert())
    pixels = backbone.to_input(photo)
    assert backbone.look(pixels)[1] is None
    assert np.array_equal(class_map(model_of(backbone), photo, 0), retrain.tf.gradient_map(SPEC, pixels, WEIGHTS))
