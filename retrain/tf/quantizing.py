"""A network in int8: its weights and activations, calibrated on crops of scikit-learn's two sample photos."""

from dataclasses import replace

import tensorflow as tf

from retrain.backbones.runner import no_chatter
from retrain.errors import RetrainError
from retrain.tf.convert import calibration_crops
from retrain.tf.whole import network


def quantize(backbone):
    """Bytes of a LiteRT file of a Backbone in float32: pixels uint8 (1, H, W, 3) → embedding float32 (1, D)."""
    spec, embed = replace(backbone.spec, mean=0.0, scale=1.0), network(backbone)
    entry = tf.TensorSpec((1, spec.image_size, spec.image_size, 3), tf.float32, name="images")
    module = tf.Module()
    module.run = tf.function(embed, input_signature=[entry])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([crop] for crop in calibration_crops(spec))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    try:
        with no_chatter():
            return converter.convert()
    except Exception as error:  # the converter raises many kinds
        raise RetrainError(f"{spec.name} cannot compute in int8.", "Export tflite, which is in float32.") from error
