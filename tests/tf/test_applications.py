"""The networks of keras.applications: their table, their weights out of Keras' cache, their preprocessing."""

import hashlib
import inspect
from importlib.util import find_spec as find_module
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from retrain.backbones import APPLICATIONS, Backbone, find_spec, load_backbone
from retrain.backbones.applications import FAMILIES
from retrain.errors import RetrainError

pytestmark = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.skipif(not find_module("tensorflow"), reason="TensorFlow is not installed"),
]
if find_module("tensorflow"):
    import h5py
    import keras
    from keras.src.applications import mobilenet_v3
    from keras.src.backend import config
    from keras.src.backend.common.stateless_scope import StatelessScope
    from keras.src.legacy.saving import legacy_h5_format
    from keras.src.utils import file_utils

    from retrain.tf import applications, convert

MOBILE_NET_V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5"
MOBILE_NET_V3 = "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"


@pytest.fixture
def images():
    from sklearn.datasets import load_sample_images

    return np.stack([np.array(Image.fromarray(photo).resize((96, 96))) for photo in load_sample_images().images])


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    """Keras' cache of weights, empty; and no network."""

    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(config, "keras_home", lambda: str(tmp_path / "keras"))
    monkeypatch.setattr(file_utils, "urlretrieve", refuse)
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def put_weights(path, name):
    """Write the weights of a random network as Keras publishes them.  Returns the network and the file's sha256."""
    network = applications.build(find_spec(name), weights=None)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    return network, hashlib.sha256(path.read_bytes()).hexdigest()


def test_table_names_all_that_keras_has():
    theirs = {f"keras:{name}" for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert set(APPLICATIONS) == theirs


@pytest.mark.parametrize(
    "name", ["ConvNeXtTiny", "InceptionV3", "MobileNetV3Large", "NASNetMobile", "ResNet50V2", "VGG16", "Xception"]
)
def test_table_knows_the_size_of_the_embedding(name):
    with StatelessScope():  # computes shapes alone
        network = applications.build(APPLICATIONS[f"keras:{name}"], weights=None)
    assert network.output_shape[1] == APPLICATIONS[f"keras:{name}"].embedding_size


@pytest.mark.parametrize("name", [min(names, key=names.get) for _, _, names in FAMILIES])
def test_file_of_each_family_computes_what_keras_does(name, monkeypatch):
    spec = find_spec(f"keras:{name},size=96")
    keras.utils.set_random_seed(0)
    network = applications.build(spec, weights=None)
    monkeypatch.setattr(convert, "build_keras", lambda spec: network)
    backbone = Backbone(spec, convert.convert_published(spec)[0])
    pictures = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    expected = np.array(network(applications.preprocess(spec, pictures.astype(np.float32)), training=False))
    found = backbone.embed(pictures)
    assert found.shape == (3, spec.embedding_size)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    assert np.array_equal(np.concatenate([backbone.embed(picture[None]) for picture in pictures]), found)


def test_weights_in_the_cache_of_keras_are_used(weights_folder, images):
    network, _ = put_weights(weights_folder / MOBILE_NET_V2, "keras:MobileNetV2,size=96")
    backbone = load_backbone("keras:MobileNetV2,size=96")
    expected = np.array(network(images / np.float32(127.5) - 1, training=False))
    assert (backbone.suffix, backbone.spec.image_size) == (".tflite", 96)
    assert np.abs(backbone.embed(images) - expected).max() <= 1e-3 * np.abs(expected).max()
    embedding, feature_map = backbone.look(images[0])
    assert np.abs(feature_map.mean(axis=(0, 1)) - embedding).max() <= 1e-5 * np.abs(expected).max()


def test_it_is_built_once(weights_folder, monkeypatch):
    put_weights(weights_folder / MOBILE_NET_V2, "keras:MobileNetV2,size=96")
    first = load_backbone("keras:MobileNetV2,size=96")
    monkeypatch.setattr("retrain.tf.convert_published", lambda spec: pytest.fail("built again"))
    assert load_backbone("keras:MobileNetV2,size=96").fingerprint == first.fingerprint


def test_gradient_gives_a_heat_map_where_keras_is_at_hand(weights_folder, images):
    import retrain.tf

    put_weights(weights_folder / MOBILE_NET_V2, "keras:MobileNetV2,size=96")
    backbone = load_backbone("keras:MobileNetV2,size=96")
    weights = np.random.default_rng(0).normal(size=1280).astype(np.float32)
    embedding, feature_map = backbone.look(images[0])
    expected = feature_map @ weights / np.linalg.norm(embedding)
    found = retrain.tf.gradient_map(backbone.spec, images[0], weights)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_weights_without_a_network_say_which_file_to_bring_where(weights_folder):
    with pytest.raises(RetrainError, match=r"weights of keras:MobileNetV3Small cannot be had: .*no network") as caught:
        load_backbone("keras:MobileNetV3Small")
    digest = mobilenet_v3.WEIGHTS_HASHES["small_224_1.0_float"][1]
    assert f"{weights_folder}/{MOBILE_NET_V3} (md5 {digest})" in caught.value.hint
    assert (
        f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v3/{MOBILE_NET_V3}"
        in caught.value.hint
    )


def test_weights_of_another_hash_are_not_used(weights_folder):
    put_weights(weights_folder / MOBILE_NET_V3, "keras:MobileNetV3Small")
    with pytest.raises(RetrainError, match="cannot be had"):
        load_backbone("keras:MobileNetV3Small")


def test_weights_of_the_published_hash_are_used(weights_folder, monkeypatch, capsys):
    _, digest = put_weights(weights_folder / MOBILE_NET_V3, "keras:MobileNetV3Small")
    monkeypatch.setitem(mobilenet_v3.WEIGHTS_HASHES, "small_224_1.0_float", ("", digest))
    assert load_backbone("keras:MobileNetV3Small").spec.embedding_size == 576
    assert capsys.readouterr().out == ""


def test_network_without_a_published_hash_says_so(weights_folder):
    with pytest.raises(RetrainError) as caught:
        load_backbone("keras:MobileNet")
    assert "Keras knows no hash of it" in caught.value.hint


def test_size_that_a_network_does_not_take_is_a_clear_error(weights_folder):
    with pytest.raises(RetrainError, match=r"keras:InceptionV3,size=64 cannot be built") as caught:
        load_backbone("keras:InceptionV3,size=64")
    assert caught.value.hint == "Leave ,size= out."
