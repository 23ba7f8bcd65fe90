"""Networks that users bring, as far as that goes without TensorFlow."""

import hashlib
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from retrain import Classifier, TrainOptions, train
from retrain.backbones import Backbone, find_spec, load_backbone
from retrain.backbones.files import SHIPPED, cache_folder
from retrain.backbones.runner import LiteRTNetwork
from retrain.backbones.sources import PIXELS, is_source, parse
from retrain.errors import RetrainError
from retrain.images import decode

LITE = find_spec("efficientnet-lite0")


@pytest.fixture
def file(tmp_path):
    """The shipped network as a file of the user's own."""
    return shutil.copy(SHIPPED / "efficientnet-lite0.tflite", tmp_path / "own.tflite")


def test_tflite_file_is_used_as_it_is(file, picture):
    own, shipped = load_backbone(str(file)), load_backbone(LITE.name)
    entry = own.to_input(decode(picture.read_bytes()))
    assert np.array_equal(own.embed(entry[None]), shipped.embed(entry[None]))
    assert own.has_feature_map
    spec = own.spec
    assert (spec.name, spec.image_size, spec.embedding_size, spec.precision) == ("own.tflite", 224, 1280, "int8")
    assert not cache_folder().exists()


def test_file_is_known_by_its_checksum(file, tmp_path):
    before = load_backbone(str(file))
    assert before.fingerprint.startswith(hashlib.sha256(file.read_bytes()).hexdigest())
    assert load_backbone(str(file.rename(tmp_path / "renamed.tflite"))).fingerprint == before.fingerprint


def test_model_of_an_own_file_holds_it_and_not_where_it_was(file, data, tmp_path, picture):
    result = train(data, TrainOptions(model_dir=tmp_path / "model", backbone=str(file), report=False))
    assert (result["backbone"], result["needs_tensorflow"]) == ("own.tflite", False)
    assert (tmp_path / "model" / "backbone.tflite").read_bytes() == file.read_bytes()
    assert str(tmp_path) not in (tmp_path / "model" / "model.json").read_text()
    file.unlink()
    (guess,) = Classifier.load(tmp_path / "model").guess([picture])
    assert guess.label in ("fish", "tree")


def test_own_file_works_beside_a_shipped_network(file, data, tmp_path):
    options = TrainOptions(model_dir=tmp_path / "model", backbone=f"efficientnet-lite2+{file}", report=False)
    assert train(data, options)["backbone"] == "efficientnet-lite2+own.tflite"


@pytest.mark.parametrize("content", [b"", b"words", bytes(1000)])
def test_file_that_is_no_network_is_a_clear_error(file, content):
    file.write_bytes(content)
    with pytest.raises(RetrainError, match=r"own\.tflite does not run") as caught:
        load_backbone(str(file))
    assert "Choose another file" in caught.value.hint


@pytest.mark.parametrize(
    ("shape", "dtype", "sizes", "words"),
    [
        ((1, 3, 224, 224), np.float32, {2: 10}, "no square pictures"),
        ((1, 224, 160, 3), np.float32, {2: 10}, "no square pictures"),
        ((1, 1, 1, 3), np.float32, {2: 10}, "no square pictures"),
        ((1, 100), np.float32, {2: 10}, "no square pictures"),
        ((1, 224, 224, 3), np.int64, {2: 10}, "no square pictures"),
        ((1, 224, 224, 3), np.float32, {4: 10}, "gives no vector"),
        ((1, 224, 224, 3), np.float32, {2: 10, 4: 20}, "not of its vector"),
    ],
)
def test_network_that_does_not_fit_is_a_clear_error(file, monkeypatch, shape, dtype, sizes, words):
    def pretend(network, content):
        network.shape, network.dtype = shape, dtype
        network.outputs = {dimensions: {"shape": [1, size]} for dimensions, size in sizes.items()}

    monkeypatch.setattr(LiteRTNetwork, "__init__", pretend)
    with pytest.raises(RetrainError, match=words) as caught:
        load_backbone(f"{file},pixels=raw")
    assert caught.value.hint


@pytest.fixture
def float_file(file, monkeypatch):
    """A file that takes float32."""

    def pretend(network, content):
        network.shape, network.dtype, network.outputs = (1, 32, 32, 3), np.float32, {2: {"shape": [1, 3]}}
        network.run = lambda images, dimensions: [images[0].mean(axis=(0, 1))]

    monkeypatch.setattr(LiteRTNetwork, "__init__", pretend)
    return file


@pytest.mark.parametrize(("pixels", "low", "high"), [("raw", 0, 255), ("unit", 0, 1), ("tf", -1, 1)])
def test_pixels_enter_a_float_file_as_asked(float_file, pixels, low, high):
    backbone = load_backbone(f"{float_file},pixels={pixels}")
    images = np.stack([np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)])
    assert backbone.embed(images)[:, 0] == pytest.approx([low, high])


def test_float_file_that_says_nothing_of_its_pixels_is_told_of(float_file, caplog):
    caplog.set_level(logging.WARNING, "retrain")
    assert (load_backbone(str(float_file)).spec.mean, load_backbone(str(float_file)).spec.scale) == PIXELS["unit"]
    assert "own.tflite does not say how it wants its pixels" in caplog.text


@pytest.mark.parametrize("pixels", ["torch", "caffe"])
def test_pixels_by_channel_are_refused_for_tflite(float_file, pixels):
    with pytest.raises(RetrainError, match=f"cannot have pixels={pixels}"):
        load_backbone(f"{float_file},pixels={pixels}")


def test_int8_pixels_are_shifted(file, monkeypatch):
    seen = []

    def pretend(network, content):
        network.shape, network.dtype, network.outputs = (1, 32, 32, 3), np.int8, {2: {"shape": [1, 3]}}
        network.run = lambda images, dimensions: [seen.append(images) or images[0, 0, 0].astype(np.float32)]

    monkeypatch.setattr(LiteRTNetwork, "__init__", pretend)
    load_backbone(str(file)).embed(np.array([0, 127, 255], np.uint8) * np.ones((1, 32, 32, 1), np.uint8))
    assert seen[0].dtype == np.int8
    assert seen[0][0, 0, 0].tolist() == [-128, -1, 127]


@pytest.mark.parametrize(
    "name", ["own.keras", "nets/own.tflite", "hub:module", "hub:https://example.org/m/1", "own.h5"]
)
def test_names_of_own_networks_are_known_as_such(name):
    assert is_source(name)
    assert is_source(f"{name},size=96,pixels=tf")


@pytest.mark.parametrize("name", ["efficientnet-lite0", "keras:MobileNetV2", "keras:MobileNetV2,size=96", "", "own"])
def test_names_of_registered_networks_are_not(name):
    assert not is_source(name)


def test_name_keeps_its_options_and_no_folder():
    source = parse("nets/a,b.keras,size=96,pixels=tf")
    assert (source.name, source.place) == ("a,b.keras,pixels=tf,size=96", "nets/a,b.keras")
    assert (source.size, source.pixels) == (96, "tf")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own.keras,pixels=rgb", "no way of pixels 'rgb'"),
        ("own.keras,size=big", "pictures of big px"),
        ("own.keras,size=5", "pictures of 5 px"),
        ("own.h5", r"is a \.h5 file, which retrain does not read"),
        ("own.onnx", r"is a \.onnx file, which retrain does not read"),
        ("own.keras", "cannot be read: No such file"),
        ("hub:own", "is not a folder with a SavedModel"),
    ],
)
def test_wrong_name_is_a_clear_error(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RetrainError, match=words) as caught:
        load_backbone(name)
    assert caught.value.hint


def test_size_of_a_tflite_file_cannot_be_changed(file):
    with pytest.raises(RetrainError, match="takes pictures of 224 px and no others"):
        load_backbone(f"{file},size=96")


def test_without_tensorflow_a_keras_file_names_the_set_up(tmp_path, monkeypatch):
    import retrain.tf

    (tmp_path / "own.keras").touch()
    monkeypatch.setattr(retrain.tf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="needs TensorFlow") as caught:
        load_backbone(str(tmp_path / "own.keras"))
    assert "make setup-full" in caught.value.hint


def test_names_in_a_stranger_s_model_open_no_files(file, picture):
    from retrain.explain import class_map
    from retrain.head import Head
    from retrain.model import Model

    spec = replace(LITE, name=f"hub:{file.parent}", weights_package="keras")
    backbone = Backbone(spec, load_backbone(LITE.name).content)
    entry = backbone.to_input(decode(picture.read_bytes()))
    backbone.embed(entry[None])
    del backbone._thread.network.outputs[4]
    model = Model(["a"], [backbone], Head(np.ones((1, 1280), np.float32), np.zeros(1, np.float32)))
    with pytest.raises(RetrainError, match="no backbone named 'hub:"):
        class_map(model, decode(picture.read_bytes()), 0)
