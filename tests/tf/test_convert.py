"""The networks that we build, against the published weights and against an implementation of their own."""

import numpy as np
import pytest
from marks import NEEDS_TENSORFLOW
from PIL import Image

import retrain.tf
from retrain.backbones import BACKBONES, Backbone, find_spec, load_backbone
from retrain.backbones.weights import read_weights
from retrain.images import decode, read

pytestmark = NEEDS_TENSORFLOW
LITES = ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]


@pytest.fixture(scope="module")
def build():
    """Backbone of a name, converted anew, once."""
    built = {}

    def build(name):
        if name not in built:
            spec = find_spec(name)
            built[name] = Backbone(spec, retrain.tf.convert_published(spec)[0])
        return built[name]

    return build


@pytest.fixture(scope="module")
def photos():
    """Crops of scikit-learn's two sample photos."""
    from sklearn.datasets import load_sample_images

    images = [Image.fromarray(photo) for photo in load_sample_images().images]
    return [image.crop((left, top, left + 400, top + 400)) for image in images for left, top in [(0, 0), (200, 20)]]


def entries(backbone, photos):
    return np.stack([backbone.to_input(photo) for photo in photos])


def unit(embeddings):
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def cosines(one, other):
    return (unit(one) * unit(other)).sum(axis=1)


@pytest.mark.parametrize("name", [spec.name for spec in BACKBONES.values() if spec.shipped_sha256])
def test_shipped_file_is_what_its_script_makes(build, photos, name):
    shipped, built = load_backbone(name), build(name)
    if built.sha256 != shipped.sha256:  # another processor may round otherwise
        differences = unit(built.embed(entries(built, photos))) - unit(shipped.embed(entries(shipped, photos)))
        assert np.abs(differences).max() <= 1e-3


@pytest.mark.parametrize("name", LITES)
def test_litert_float32_is_the_keras_model(build, photos, name):
    from retrain.tf.convert import build_keras

    backbone = build(f"{name}-float32")
    images = entries(backbone, photos)
    spec = backbone.spec
    outputs = build_keras(spec)((images.astype(np.float32) - spec.mean) / spec.scale, training=False)
    assert cosines(backbone.embed(images), np.array(outputs["embeddings"])).min() >= 0.9999
    maps = np.stack([backbone.look(image)[1].ravel() for image in images])
    assert cosines(maps, np.array(outputs["feature_map"]).reshape(len(images), -1)).min() >= 0.9999


# EfficientNet-Lite as its paper's table has it: kernel, stride, expansion, channels, blocks (of lite0).
STAGES = [
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]  # fmt: skip


def convolve(x, kernel, stride=1):
    """x (H, W, C) with kernel (out, in / groups, h, w), one group or one a channel; padded as TensorFlow's "same"."""
    size = kernel.shape[-1]
    height, width = (-(-side // stride) for side in x.shape[:2])
    margins = [max((n - 1) * stride + size - side, 0) for n, side in zip((height, width), x.shape[:2], strict=True)]
    x = np.pad(x, [*((margin // 2, margin - margin // 2) for margin in margins), (0, 0)])
    total = 0
    for row in range(size):
        for column in range(size):
            part = x[row : row + height * stride : stride, column : column + width * stride : stride][:height, :width]
            tap = kernel[:, :, row, column]
            total = total + (part * tap[:, 0] if tap.shape[1] == 1 else part @ tap.T)
    return total


def by_hand(weights, x):
    """Feature map of lite0 in numpy, from nothing but the published weights."""

    def unit_of(x, convolution, norm, stride=1, clip=True):
        x = convolve(x, weights[f"{convolution}.weight"].astype(np.float64), stride)
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"].astype(np.float64) + 1e-3)
        x = (x - weights[f"{norm}.running_mean"]) * scale + weights[f"{norm}.bias"]
        return np.clip(x, 0, 6) if clip else x

    x, block = unit_of(x, "_conv_stem", "_bn0", stride=2), 0
    for kernel, first_stride, expansion, channels, blocks in STAGES:
        for number in range(blocks):
            name, stride, before = f"_blocks.{block}.", first_stride if number == 0 else 1, x
            if expansion > 1:
                x = unit_of(x, f"{name}_expand_conv", f"{name}_bn0")
            assert x.shape[-1] == before.shape[-1] * expansion
            assert weights[f"{name}_depthwise_conv.weight"].shape[-1] == kernel
            x = unit_of(x, f"{name}_depthwise_conv", f"{name}_bn1", stride)
            x = unit_of(x, f"{name}_project_conv", f"{name}_bn2", clip=False)
            assert x.shape[-1] == channels
            x, block = before + x if stride == 1 and x.shape == before.shape else x, block + 1
    return unit_of(x, "_conv_head", "_bn1")


@pytest.fixture(scope="module")
def expected(photos):
    """Embeddings of the first two photos by lite0, computed by hand."""
    backbone = load_backbone("efficientnet-lite0")
    weights, images = read_weights(backbone.spec), entries(backbone, photos[:2])
    return np.stack([by_hand(weights, (image - 127.0) / 128.0).mean(axis=(0, 1)) for image in images])


@pytest.mark.parametrize(("name", "cosine"), [("efficientnet-lite0-float32", 0.9999), ("efficientnet-lite0", 0.99)])
def test_embedding_is_the_one_computed_by_hand(build, photos, expected, name, cosine):
    backbone = build(name)
    assert cosines(backbone.embed(entries(backbone, photos[:2])), expected).min() >= cosine


@pytest.fixture(scope="module")
def accuracy(build, real_data):
    """Share of the ImageNet photos that a backbone, under its published classifier, names rightly."""
    rows = [line.split("\t") for line in (real_data / "imagenet" / "labels.tsv").read_text().splitlines()[1:]]
    images = [decode(read(real_data / "imagenet" / row[0])) for row in rows]
    truth = np.array([int(row[1]) for row in rows])

    def accuracy(name):
        backbone = build(name)
        weights = read_weights(backbone.spec)
        logits = backbone.embed(entries(backbone, images)) @ weights["_fc.weight"].T + weights["_fc.bias"]
        assert len(truth) == 75
        return np.mean(logits.argmax(axis=1) == truth)

    return accuracy


@pytest.mark.real
@pytest.mark.parametrize("name", LITES)
def test_imagenet_photos_are_named_rightly(accuracy, name):
    precise, fast = accuracy(f"{name}-float32"), accuracy(name)
    assert precise >= 0.85
    assert fast >= precise - 0.04
