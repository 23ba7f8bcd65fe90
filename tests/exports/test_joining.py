"""A model's files joined to one, against the files themselves and Pillow."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from retrain.backbones import load_backbone
from retrain.classifier import Classifier
from retrain.errors import RetrainError
from retrain.exports.joining import join
from retrain.head import Head
from retrain.images import decode, read, resizing_kernel
from retrain.model import Model


def model_of(names, thresholds=None, temperature=0.7):
    """Three classes, told by random weights."""
    backbones = [load_backbone(name) for name in names]
    random, width = np.random.default_rng(0), sum(backbone.spec.embedding_size for backbone in backbones)
    weights = random.normal(0, 0.5, (3, width)).astype(np.float32)
    return Model(["a", "b", "c"], backbones, Head(weights, np.float32([0, 0.1, 0.2]), thresholds), temperature)


def run(content, pixels):
    return Interpreter(model_content=content).get_signature_runner()(pixels=pixels)["probabilities"]


def probabilities(model, image):
    classifier = Classifier(model)
    return classifier.probabilities_of(classifier.embed(image))


@pytest.mark.parametrize(("before", "after"), [(240, 224), (64, 24), (24, 64), (31, 30)])
def test_resizing_by_matrices_is_that_of_pillow(before, after):
    pixels = np.random.default_rng(0).uniform(0, 255, (before, before)).astype(np.float32)
    kernel = resizing_kernel(before, after)
    expected = Image.fromarray(pixels).resize((after, after), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(kernel.T @ pixels @ kernel, np.asarray(expected), atol=1e-3)


@pytest.mark.parametrize("thresholds", [None, np.full(3, 0.5, np.float32)])
def test_one_network_in_int8_says_the_very_same(picture, thresholds):
    model, image = model_of(["efficientnet-lite0"], thresholds), decode(read(picture))
    found = run(join(model, 224, np.uint8), model.backbones[0].to_input(image)[None])
    np.testing.assert_allclose(found, probabilities(model, image), atol=1e-5)
    assert (found.sum() == pytest.approx(1)) == (thresholds is None)


def test_networks_of_one_size_take_the_same_bytes(picture):
    model, image = model_of(["efficientnet-lite0", "efficientnet-lite0"]), decode(read(picture))
    content = join(model, 224, np.uint8)
    np.testing.assert_allclose(
        run(content, model.backbones[0].to_input(image)[None]), probabilities(model, image), atol=1e-5
    )
    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    takers = [operator for operator in graph.operators if graph.inputs[0] in operator.inputs]
    assert len(takers) == 2


def test_smaller_network_is_given_smaller_pictures(picture):
    model = model_of(["efficientnet-lite0", "efficientnet-lite1"])
    square = model.backbones[1].to_input(decode(read(picture)))
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in square.transpose(2, 0, 1)]
    small = [np.asarray(channel.resize((224, 224), Image.Resampling.BICUBIC)) for channel in channels]
    small = np.clip(np.round(np.stack(small, axis=-1)), 0, 255).astype(np.uint8)
    parts = [model.backbones[0].embed(small[None]), model.backbones[1].embed(square[None])]
    parts = [part / np.linalg.norm(part) / 2**0.5 for part in parts]
    expected = Classifier(model).probabilities_of(np.concatenate(parts, axis=1))
    assert np.abs(run(join(model, 240, np.uint8), square[None]) - expected).max() < 0.02  # some pixels lie at a half


def test_pixels_may_be_float(picture):
    model, image = model_of(["efficientnet-lite0"]), decode(read(picture))
    pixels = model.backbones[0].to_input(image)[None].astype(np.float32)
    np.testing.assert_allclose(run(join(model, 224, np.float32), pixels), probabilities(model, image), atol=1e-5)


def test_feature_map_is_left_out_and_buffers_are_aligned():
    model = model_of(["efficientnet-lite0"])
    content = join(model, 224, np.uint8)
    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    packed = schema.Model.GetRootAs(content, 0)
    codes = [names[packed.OperatorCodes(operator.opcodeIndex).BuiltinCode()] for operator in graph.operators]
    assert codes[-4:] == ["MUL", "L2_NORMALIZATION", "FULLY_CONNECTED", "SOFTMAX"]
    assert codes.count("DEQUANTIZE") == 1
    buffers = [packed.Buffers(number) for number in range(packed.BuffersLength())]
    places = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(places) > 50
    assert not any(place % 16 for place in places)


def test_network_that_litert_cannot_run_is_refused():
    model = model_of(["efficientnet-lite0"])
    model.backbones[0].spec = replace(model.backbones[0].spec, runtime="tensorflow")
    with pytest.raises(RetrainError, match="cannot be converted to LiteRT") as caught:
        join(model, 224, np.float32)
    assert "saved_model, onnx, pb or zip" in caught.value.hint
