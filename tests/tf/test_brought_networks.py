"""Networks that users bring: each computes in our file what it computes where it comes from, and none does more."""

import io
import json
import logging
import zipfile
from importlib.util import find_spec as find_module

import numpy as np
import pytest
from PIL import Image

from retrain.backbones import load_backbone, names_of
from retrain.backbones.files import cache_folder
from retrain.errors import RetrainError

pytestmark = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.skipif(not find_module("tensorflow"), reason="TensorFlow is not installed"),
]
if find_module("tensorflow"):
    import keras
    import networks
    import tensorflow as tf

CLASSES = 5


@pytest.fixture(scope="module")
def photos():
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(photo) for photo in load_sample_images().images]


def entries(backbone, photos):
    return np.stack([backbone.to_input(photo) for photo in photos])


def is_the_same(found, expected):
    """Within a thousandth of the largest number, which random networks make small."""
    expected = np.asarray(expected)
    assert expected.std() > 0
    return np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def has_its_map(backbone, images):
    embedding, feature_map = backbone.look(images[0])
    return is_the_same(feature_map.mean(axis=(0, 1)), embedding)


@pytest.fixture(params=["reusable", "signature only", "module of TensorFlow 1"])
def folder(request, tmp_path):
    make = {
        "reusable": lambda: networks.save_reusable(tmp_path / "module"),
        "signature only": lambda: networks.save_signature_only(tmp_path / "module"),
        "module of TensorFlow 1": lambda: networks.save_tf1_module(tmp_path / "module"),
    }
    return make[request.param]()


def test_saved_model_embeds_as_it_does_itself(folder, photos):
    backbone = load_backbone(f"hub:{folder}")
    images = entries(backbone, photos)
    expected = networks.mean_of_map(images / np.float32(255), networks.kernel())
    assert (backbone.suffix, backbone.spec.image_size, backbone.spec.embedding_size) == (".tflite", 64, 8)
    assert is_the_same(backbone.embed(images), expected)
    assert has_its_map(backbone, images)


def test_network_is_known_by_its_content_and_not_by_its_folder(folder, tmp_path):
    before = load_backbone(f"hub:{folder}").fingerprint
    moved = folder.rename(tmp_path / "elsewhere")
    assert load_backbone(f"hub:{moved}").fingerprint == before
    (moved / "note.txt").write_text("changed")
    assert load_backbone(f"hub:{moved}").fingerprint != before


def test_network_is_converted_once(folder, monkeypatch):
    first = load_backbone(f"hub:{folder}")
    monkeypatch.setattr("retrain.tf.convert_source", lambda source: pytest.fail("converted again"))
    assert load_backbone(f"hub:{folder}").content == first.content
    assert len(list(cache_folder().glob("*.tflite"))) == 1


def test_free_size_is_224_or_as_asked(tmp_path):
    folder = networks.save_reusable(tmp_path / "module", size=None)
    assert load_backbone(f"hub:{folder}").spec.image_size == 224
    backbone = load_backbone(f"hub:{folder},size=96")
    assert (backbone.spec.image_size, backbone.spec.name) == (96, "hub:module,size=96")


def test_fixed_size_cannot_be_changed(tmp_path):
    folder = networks.save_reusable(tmp_path / "module")
    with pytest.raises(RetrainError, match="takes pictures of 64 px and no others"):
        load_backbone(f"hub:{folder},size=96")


APPLICATIONS = {
    "MobileNetV2": ("tf", {"alpha": 0.35}),
    "MobileNet": ("tf", {"alpha": 0.25}),
    "MobileNetV3Small": ("raw", {}),
    "DenseNet121": ("torch", {}),
    "ResNet50": ("caffe", {}),
}


def prepared(images, pixels):
    """images uint8 (N, H, W, 3) as Keras' families want them, by hand."""
    images = images.astype(np.float64)
    if pixels == "caffe":
        images = images[..., ::-1] - [103.939, 116.779, 123.68]
    elif pixels == "torch":
        images = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    elif pixels != "raw":
        images = {"tf": images / 127.5 - 1, "unit": images / 255}[pixels]
    return images.astype(np.float32)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_saved_application_gets_the_pixels_of_its_family(tmp_path, photos, name, caplog):
    pixels, options = APPLICATIONS[name]
    network = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=CLASSES, **options)
    network.save(tmp_path / "network.keras")
    backbone = load_backbone(str(tmp_path / "network.keras"))
    images = entries(backbone, photos)
    classes = next(layer for layer in reversed(network.layers) if hasattr(layer, "kernel"))
    expected = keras.Model(network.inputs[0], classes.input)(prepared(images, pixels), training=False)
    assert is_the_same(backbone.embed(images), np.reshape(expected, (len(images), -1)))
    assert backbone.has_feature_map == (name != "MobileNetV3Small")  # which has a layer behind the mean
    assert "pixels" not in caplog.text


@pytest.mark.parametrize("pixels", ["raw", "unit", "tf", "torch", "caffe"])
def test_keras_file_gets_the_pixels_asked_for(tmp_path, photos, pixels):
    network = networks.small_keras()
    network.save(tmp_path / "own.keras")
    backbone = load_backbone(f"{tmp_path / 'own.keras'},pixels={pixels}")
    images = entries(backbone, photos)
    assert is_the_same(backbone.embed(images), network(prepared(images, pixels)))


def test_preprocessing_inside_a_network_is_seen(tmp_path, photos, caplog):
    network = networks.small_keras(first=[keras.layers.Rescaling(1 / 255)])
    network.save(tmp_path / "own.keras")
    backbone = load_backbone(str(tmp_path / "own.keras"))
    images = entries(backbone, photos)
    assert is_the_same(backbone.embed(images), network(images.astype(np.float32)))
    assert "pixels" not in caplog.text


def test_network_that_says_nothing_of_its_pixels_is_told_of(tmp_path, photos, caplog):
    caplog.set_level(logging.WARNING, "retrain")
    network = networks.small_keras()
    network.save(tmp_path / "own.keras")
    backbone = load_backbone(str(tmp_path / "own.keras"))
    images = entries(backbone, photos)
    assert is_the_same(backbone.embed(images), network(prepared(images, "unit")))
    assert "own.keras does not say how it wants its pixels: taken for 0-1" in caplog.text


def classifier_endings():
    dense = lambda activation=None: keras.layers.Dense(CLASSES, activation=activation)  # noqa: E731
    return {
        "softmax": [keras.layers.Dropout(0.2), dense("softmax")],
        "sigmoid": [dense("sigmoid")],
        "softmax apart": [dense(), keras.layers.Softmax()],
        "activation apart": [dense(), keras.layers.Activation("softmax")],
    }


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "softmax apart", "activation apart"])
def test_classes_at_the_end_are_taken_off(tmp_path, ending):
    networks.small_keras(*classifier_endings()[ending]).save(tmp_path / "own.keras")
    backbone = load_backbone(f"{tmp_path / 'own.keras'},pixels=tf")
    assert (backbone.spec.embedding_size, backbone.has_feature_map) == (networks.WIDTH, True)


def test_dense_layer_that_tells_no_classes_stays(tmp_path):
    networks.small_keras(keras.layers.Dense(3)).save(tmp_path / "own.keras")
    backbone = load_backbone(f"{tmp_path / 'own.keras'},pixels=tf")
    assert (backbone.spec.embedding_size, backbone.has_feature_map) == (3, False)


def test_network_that_ends_in_a_map_is_averaged(tmp_path, photos):
    network = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Conv2D(8, 3, 2)])
    network.save(tmp_path / "own.keras")
    backbone = load_backbone(f"{tmp_path / 'own.keras'},pixels=raw")
    images = entries(backbone, photos)
    assert is_the_same(backbone.embed(images), np.mean(network(images.astype(np.float32)), axis=(1, 2)))
    assert has_its_map(backbone, images)


def without_litert(images, weights):
    # LiteRT has no such operation.
    return tf.math.igamma(networks.mean_of_map(images, weights) + 1.0, 1.0)


@pytest.fixture
def stubborn(tmp_path):
    return networks.save_reusable(tmp_path / "module", compute=without_litert)


def test_network_that_cannot_be_converted_runs_by_tensorflow(stubborn, photos):
    backbone = load_backbone(f"hub:{stubborn}")
    images = entries(backbone, photos)
    assert (backbone.suffix, backbone.spec.runtime, backbone.has_feature_map) == (".pb", "tensorflow", False)
    assert is_the_same(backbone.embed(images), without_litert(images / np.float32(255), networks.kernel()))
    assert load_backbone(f"hub:{stubborn}").fingerprint == backbone.fingerprint


def test_training_on_it_says_so_and_the_model_records_it(stubborn, data, tmp_path, caplog, picture):
    from retrain import Classifier, TrainOptions, train

    caplog.set_level(logging.WARNING, "retrain")
    result = train(data, TrainOptions(model_dir=tmp_path / "model", backbone=f"hub:{stubborn}"))
    assert "hub:module cannot be converted to LiteRT" in caplog.text
    assert result["needs_tensorflow"]
    entry = json.loads((tmp_path / "model" / "model.json").read_text())["backbones"][0]
    assert (entry["file"], entry["spec"]["runtime"]) == ("backbone.pb", "tensorflow")
    (guess,) = Classifier.load(tmp_path / "model").guess([picture])
    assert guess.label in ("fish", "tree")


def test_guess_with_such_a_model_says_that_it_needs_tensorflow(stubborn, data, tmp_path, picture, monkeypatch):
    import retrain.tf
    from retrain import Classifier, TrainOptions, train

    train(data, TrainOptions(model_dir=tmp_path / "model", backbone=f"hub:{stubborn}", report=False))
    monkeypatch.setattr(retrain.tf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="needs TensorFlow"):
        list(Classifier.load(tmp_path / "model").guess([picture]))


def test_model_of_a_brought_network_guesses_without_it(data, tmp_path, picture):
    from retrain import Classifier, TrainOptions, train

    folder = networks.save_reusable(tmp_path / "module")
    result = train(data, TrainOptions(model_dir=tmp_path / "model", backbone=f"hub:{folder}"))
    assert (result["backbone"], result["needs_tensorflow"]) == ("hub:module", False)
    folder.rename(tmp_path / "gone")
    (guess,) = Classifier.load(tmp_path / "model").guess([picture])
    assert guess.label in ("fish", "tree")
    assert str(tmp_path) not in (tmp_path / "model" / "model.json").read_text()


def test_heat_map_of_a_network_without_one_is_a_clear_error(tmp_path):
    from retrain.explain import require_maps
    from retrain.head import Head
    from retrain.model import Model

    networks.small_keras(keras.layers.Dense(3)).save(tmp_path / "own.keras")
    backbone = load_backbone(f"{tmp_path / 'own.keras'},pixels=tf")
    with pytest.raises(RetrainError, match=r"own\.keras,pixels=tf gives no feature map"):
        require_maps(Model(["a"], [backbone], Head(np.zeros((1, 3), np.float32), np.zeros(1, np.float32))))


# What strangers' networks must not do.

HOSTILE = {
    "ReadFile": lambda secret: tf.io.read_file(secret),
    "WriteFile": lambda secret: after(tf.io.write_file(secret, "x")),
    "MatchingFiles": lambda secret: tf.io.matching_files(secret)[0],
    "RestoreV2": lambda secret: tf.strings.as_string(tf.raw_ops.RestoreV2(
        prefix=secret, tensor_names=["w"], shape_and_slices=[""], dtypes=[tf.float32])[0]),
    "SaveV2": lambda secret: after(tf.raw_ops.SaveV2(
        prefix=secret, tensor_names=["w"], shape_and_slices=[""], tensors=[tf.constant(1.0)])),
    "PrintV2": lambda secret: after(tf.print("x", output_stream=f"file://{secret}")),
    "EagerPyFunc": lambda secret: tf.py_function(lambda: "x", [], tf.string),
}  # fmt: skip


def after(operation):
    """Text that is there once an operation has run."""
    with tf.control_dependencies([operation]):
        return tf.identity("")


def hostile(operation, secret):
    def compute(images, weights):
        noise = tf.cast(tf.strings.length(HOSTILE[operation](secret)), tf.float32)
        return networks.mean_of_map(images, weights) + 0 * tf.reshape(noise, ())

    return compute


@pytest.mark.parametrize("operation", HOSTILE)
@pytest.mark.parametrize("save", ["save_reusable", "save_tf1_module"])
def test_saved_model_that_does_more_than_compute_is_refused(tmp_path, save, operation):
    secret = str(tmp_path / "secret")
    if save == "save_tf1_module" and operation == "EagerPyFunc":
        pytest.skip("TensorFlow 1 has PyFunc for that")
    folder = getattr(networks, save)(tmp_path / "module", compute=hostile(operation, secret))
    with pytest.raises(RetrainError, match=f"can do more than compute: .*{operation}"):
        load_backbone(f"hub:{folder}")
    assert not (tmp_path / "secret").exists()


def test_initializer_that_saves_is_refused(tmp_path):
    def edit(meta):
        meta.collection_def["saved_model_main_op"].node_list.value.append("save/SaveV2")

    folder = networks.save_tf1_module(tmp_path / "module")
    networks.change(folder, edit)
    with pytest.raises(RetrainError, match=r"can do more than compute: .*SaveV2"):
        load_backbone(f"hub:{folder}")


def test_variables_out_of_other_files_are_refused(tmp_path):
    def edit(meta):
        for node in meta.graph_def.node:
            if node.op == "RestoreV2":
                node.input[0] = "save/filename/input"

    folder = networks.save_tf1_module(tmp_path / "module")
    networks.change(folder, edit)
    with pytest.raises(RetrainError, match="variables out of other files"):
        load_backbone(f"hub:{folder}")


def test_saving_function_that_may_be_called_is_refused(tmp_path):
    def edit(meta):
        saving = next(f.signature.name for f in meta.graph_def.library.function if "traced_save" in f.signature.name)
        meta.object_graph_def.concrete_functions[saving].bound_inputs.extend([])

    folder = networks.save_reusable(tmp_path / "module")
    networks.change(folder, edit)
    with pytest.raises(RetrainError, match=r"can do more than compute: .*SaveV2"):
        load_backbone(f"hub:{folder}")


def test_unknown_operation_is_refused(tmp_path):
    def edit(meta):
        meta.graph_def.node.add(name="own", op="OwnOperation")

    folder = networks.save_reusable(tmp_path / "module")
    networks.change(folder, edit)
    with pytest.raises(RetrainError, match="OwnOperation"):
        load_backbone(f"hub:{folder}")


def test_graph_inside_a_stranger_s_model_is_looked_through(stubborn):
    from retrain.backbones import Backbone

    backbone = load_backbone(f"hub:{stubborn}")
    graph = tf.compat.v1.GraphDef.FromString(backbone.content)
    graph.node.add(name="read", op="ReadFile")
    with pytest.raises(RetrainError, match="can do more than compute: ReadFile"):
        Backbone(backbone.spec, graph.SerializeToString()).embed(np.zeros((1, 64, 64, 3), np.uint8))


def test_lambda_is_refused(tmp_path):
    networks.small_keras(keras.layers.Lambda(lambda x: x * 2)).save(tmp_path / "own.keras")
    with pytest.raises(RetrainError, match=r"needs code of its own: keras\.layers\.Lambda"):
        load_backbone(str(tmp_path / "own.keras"))


def test_custom_layer_is_refused(tmp_path):
    @keras.saving.register_keras_serializable("theirs")
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    networks.small_keras(Own()).save(tmp_path / "own.keras")
    with pytest.raises(RetrainError, match=r"needs code of its own: .*Own"):
        load_backbone(str(tmp_path / "own.keras"))


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "os", "class_name": "system", "config": "id"},
        {"module": "builtins", "class_name": "eval", "config": "1"},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}},
        {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
        {"module": "keras.src.utils.file_utils", "class_name": "function", "config": "get_file"},
        {"module": "keras.utils", "class_name": "get_file", "config": {}},
    ],
)
def test_config_that_names_code_is_refused(tmp_path, layer):
    networks.small_keras().save(tmp_path / "own.keras")
    parts = {}
    with zipfile.ZipFile(tmp_path / "own.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"].append(layer)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "own.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(RetrainError, match="needs code of its own"):
        load_backbone(str(tmp_path / "own.keras"))


@pytest.mark.parametrize("content", [b"", b"words", None])
def test_file_that_is_no_keras_file_is_a_clear_error(tmp_path, content):
    if content is None:
        buffer = io.BytesIO()
        zipfile.ZipFile(buffer, "w").close()
        content = buffer.getvalue()
    (tmp_path / "own.keras").write_bytes(content)
    with pytest.raises(RetrainError, match=r"is no \.keras file"):
        load_backbone(str(tmp_path / "own.keras"))


@pytest.mark.parametrize("content", [None, b"words"])
def test_folder_that_holds_no_saved_model_is_a_clear_error(tmp_path, content):
    if content:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(RetrainError, match=r"saved_model\.pb") as caught:
        load_backbone(f"hub:{tmp_path}")
    assert caught.value.hint


@pytest.mark.parametrize("handle", ["http://example.org/module/1", "gs://bucket/module"])
def test_handle_without_https_is_refused(handle):
    with pytest.raises(RetrainError, match="no handle that can be trusted"):
        load_backbone(f"hub:{handle}")


def test_handle_is_fetched_into_the_cache_once(tmp_path, monkeypatch, photos):
    import sys
    from types import SimpleNamespace

    asked, folder = [], networks.save_reusable(tmp_path / "module")
    hub = SimpleNamespace(resolve=lambda handle: asked.append(handle) or str(folder))
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    for _ in range(2):
        backbone = load_backbone("hub:https://example.org/module/1")
    assert asked == ["https://example.org/module/1"]
    assert backbone.spec.name == "hub:https://example.org/module/1"
    assert len(backbone.embed(entries(backbone, photos))) == 2


@pytest.mark.skipif(not find_module("tensorflow_hub"), reason="tensorflow-hub is not installed")
def test_handle_that_cannot_be_fetched_says_what_to_do():
    with pytest.raises(RetrainError, match="cannot be fetched") as caught:
        load_backbone("hub:https://localhost:1/module/1")
    assert "hub:FOLDER" in caught.value.hint


def test_plus_joins_names_but_may_stand_in_a_path(tmp_path):
    path = tmp_path / "a+b.keras"
    path.touch()
    assert names_of(str(path)) == [str(path)]
    assert names_of(f"efficientnet-lite0+{tmp_path / 'c.keras'}") == ["efficientnet-lite0", str(tmp_path / "c.keras")]


def to_tflite(network, custom=False, integer=False):
    """Bytes of a Keras network as others convert it."""
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.allow_custom_ops = custom
    if integer:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        shades = np.linspace(0, 255, 10, dtype=np.float32)
        converter.representative_dataset = lambda: ([np.full((1, 64, 64, 3), shade, np.float32)] for shade in shades)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


@pytest.mark.parametrize("pixels", ["raw", "unit", "tf"])
def test_tflite_file_of_floats_gets_the_pixels_asked_for(tmp_path, photos, pixels):
    network = networks.small_keras()
    (tmp_path / "own.tflite").write_bytes(to_tflite(network))
    backbone = load_backbone(f"{tmp_path / 'own.tflite'},pixels={pixels}")
    images = entries(backbone, photos)
    assert is_the_same(backbone.embed(images), network(prepared(images, pixels)))


def test_tflite_file_of_int8_gives_floats_again(tmp_path, photos):
    network = networks.small_keras()
    (tmp_path / "own.tflite").write_bytes(to_tflite(network, integer=True))
    backbone = load_backbone(str(tmp_path / "own.tflite"))
    images = entries(backbone, photos)
    expected = np.array(network(images.astype(np.float32)))
    assert backbone.spec.precision == "int8"
    assert np.corrcoef(backbone.embed(images).ravel(), expected.ravel())[0, 1] > 0.98


def test_tflite_file_with_operations_of_its_own_is_refused(tmp_path):
    pixels = keras.Input((64, 64, 3))
    network = keras.Model(pixels, Igamma()(networks.small_keras()(pixels)))
    (tmp_path / "own.tflite").write_bytes(to_tflite(network, custom=True))
    with pytest.raises(RetrainError, match="custom op: Igamma") as caught:
        load_backbone(f"{tmp_path / 'own.tflite'},pixels=raw")
    assert caught.value.hint == "Choose another file: only LiteRT's own operations can run."


if find_module("tensorflow"):

    class Igamma(keras.layers.Layer):
        """An operation that LiteRT has not."""

        def call(self, values):
            return tf.math.igamma(values + 1.0, 1.0)


def test_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    wrong = to_tflite(networks.small_keras())
    monkeypatch.setattr(tf.lite.TFLiteConverter, "convert", lambda converter: wrong)
    assert load_backbone(f"hub:{networks.save_reusable(tmp_path / 'module')}").suffix == ".pb"
