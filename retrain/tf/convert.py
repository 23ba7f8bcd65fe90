"""From published weights to a LiteRT file.  `python -m retrain.tf.convert` remakes the shipped ones."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from retrain.backbones.registry import BACKBONES
from retrain.backbones.weights import read_weights
from retrain.tf import applications, efficientnet_lite, sources
from retrain.tf.freezing import to_file

CALIBRATION_CROPS = 100


def build_keras(spec):
    """Keras model of a registered spec; see `efficientnet_lite.build` and `applications.build`."""
    if spec.weights_package == "keras":
        return applications.build(spec)
    return efficientnet_lite.build(spec.architecture, spec.image_size, read_weights(spec))


def prepare(spec, images):
    """What that model takes, of images float32 (N, H, W, 3) of 0-255."""
    if spec.weights_package == "keras":
        return applications.preprocess(spec, images)
    return (images - spec.mean) / spec.scale


def convert_published(spec):
    """(content, suffix) of the file of a registered spec."""
    if spec.weights_package == "keras":
        model = build_keras(spec)
        return to_file(lambda images: model(prepare(spec, images), training=False), spec.image_size)
    return convert(spec), ".tflite"


def convert_source(source, as_graph=False):
    """(content, suffix) of the file of a network that a user brings.  Raises RetrainError where it cannot be used."""
    network, image_size = sources.open_source(source)
    return to_file(network, image_size, as_graph)


def convert(spec, model=None):
    """Bytes of a LiteRT file: one picture in, pooled vector float32 (1, D) and feature map float32 (1, h, w, D) out.

    model: Keras; None: that of the spec.
    float32 takes preprocessed pixels; int8 (weights and activations, per-channel) takes uint8 pixels as they are.
    """
    model = model or build_keras(spec)
    module = tf.Module()
    module.run = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec((1, spec.image_size, spec.image_size, 3), tf.float32, name="images")],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    if spec.precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([crop] for crop in calibration_crops(spec))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    return converter.convert()


def calibration_crops(spec):
    """Preprocessed crops float32 (1, H, W, 3) of scikit-learn's two sample photos, the same at every call."""
    random = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(CALIBRATION_CROPS):
        photo = photos[number % len(photos)]
        side = random.uniform(0.3, 1) * min(photo.size)
        left, top = random.uniform(0, photo.width - side), random.uniform(0, photo.height - side)
        box = (left, top, left + side, top + side)
        crop = np.array(photo.resize((spec.image_size, spec.image_size), Image.Resampling.BICUBIC, box), np.float32)
        if random.random() < 0.5:
            crop = crop[:, ::-1].copy()
        # Black and white once each, so that the input's scale comes out as exactly 1 / 128.
        crop[0, 0], crop[0, 1] = 0, 255
        yield ((crop - spec.mean) / spec.scale)[None].astype(np.float32)


def main():
    folder = Path(__file__).parents[1] / "backbones" / "shipped"
    for spec in BACKBONES.values():
        if spec.shipped_sha256:
            path = folder / f"{spec.name}.tflite"
            path.write_bytes(convert(spec))
            print(path)


if __name__ == "__main__":
    main()
