"""EfficientNet-Lite as a Keras model with the published ImageNet weights."""

import keras
from keras import layers

# (blocks, kernel, stride of the first block); channels and expansion are read off the weights.
STAGES = [(1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1)]
DEPTH = {"efficientnet-lite0": 1.0, "efficientnet-lite1": 1.1, "efficientnet-lite2": 1.2}
BATCH_NORM_EPSILON = 1e-3


def build(name, image_size, weights):
    """Keras model: images float32 (N, H, W, 3), already preprocessed → feature map (N, h, w, 1280), pooled (N, 1280).

    weights: {name: array} as `retrain.backbones.weights.read_pth` returns it.
    Architecture: tensorflow/tpu `efficientnet/lite/efficientnet_lite_builder.py`; Tan & Le 2019, arXiv:1905.11946.
    """
    images = keras.Input((image_size, image_size, 3), name="images")
    network = _Network(weights)
    x = network.conv(images, "_conv_stem", stride=2, norm="_bn0", relu=True)
    for number, stride in enumerate(_block_strides(DEPTH[name])):
        x = network.block(x, f"_blocks.{number}.", stride)
    x = network.conv(x, "_conv_head", norm="_bn1", relu=True)
    pooled = layers.GlobalAveragePooling2D(name="embeddings")(x)
    model = keras.Model(images, {"embeddings": pooled, "feature_map": x}, name=name.replace("-", "_"))
    network.assign()
    return model


def _block_strides(depth):
    for stage, (blocks, _, stride) in enumerate(STAGES):
        # The lite family scales neither the first nor the last stage in depth.
        count = blocks if stage in (0, len(STAGES) - 1) else -int(-blocks * depth // 1)
        yield from [stride] + [1] * (count - 1)


class _Network:
    """Draws layers and remembers which weights go where."""

    def __init__(self, weights):
        self.weights, self.pending = weights, []

    def conv(self, x, name, *, norm, stride=1, relu=False):
        kernel = self.weights[f"{name}.weight"]  # (out, in / groups, h, w)
        depthwise = kernel.shape[1] == 1 and x.shape[-1] > 1
        if depthwise:
            layer = layers.DepthwiseConv2D(kernel.shape[2:], stride, "same", use_bias=False)
            values = kernel.transpose(2, 3, 0, 1)
        else:
            layer = layers.Conv2D(kernel.shape[0], kernel.shape[2:], stride, "same", use_bias=False)
            values = kernel.transpose(2, 3, 1, 0)
        batch_norm = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON)
        self.pending.append((layer, [values]))
        self.pending.append(
            (batch_norm, [self.weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
        )
        x = batch_norm(layer(x))
        return layers.ReLU(6.0)(x) if relu else x

    def block(self, x, prefix, stride):
        y = x
        if f"{prefix}_expand_conv.weight" in self.weights:
            y = self.conv(y, f"{prefix}_expand_conv", norm=f"{prefix}_bn0", relu=True)
        y = self.conv(y, f"{prefix}_depthwise_conv", stride=stride, norm=f"{prefix}_bn1", relu=True)
        y = self.conv(y, f"{prefix}_project_conv", norm=f"{prefix}_bn2")
        return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == y.shape[-1] else y

    def assign(self):
        for layer, values in self.pending:
            layer.set_weights(values)
