"""From a JPEG's bytes to the square that the networks see, in a graph, and as near to `retrain.images` as can be."""

import tensorflow as tf

# Pillow's decoder does both.
DECODING = {"channels": 3, "fancy_upscaling": True, "dct_method": "INTEGER_ACCURATE"}


def to_square(image, side, crop):
    """Whole numbers 0-255, float32 (1, side, side, 3): the middle `crop` of a picture uint8 (H, W, 3), bicubically."""
    height, width = (tf.cast(length, tf.float32) for length in tf.unstack(tf.shape(image)[:2]))
    cut = tf.minimum(height, width) * crop
    scale = side / cut
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None], size=(side, side), scale=tf.stack([scale, scale]),
        translation=tf.stack([(cut - height) / 2 * scale, (cut - width) / 2 * scale]),
        kernel_type="keyscubic", antialias=True,
    )  # fmt: skip
    return tf.round(tf.clip_by_value(resized, 0.0, 255.0))
