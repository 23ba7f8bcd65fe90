"""Models as TensorFlow, Keras and ONNX Runtime take them: the code in each README runs, and says what we say."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec as find_module

import numpy as np
import pytest
from marks import NEEDS_TENSORFLOW
from PIL import Image

from retrain import Classifier, ExportOptions, RetrainError, TrainOptions, export, train
from retrain.backbones import Backbone, find_spec, load_backbone
from retrain.exports import checking, load_format, writing
from retrain.exports.describing import describe
from retrain.exports.pb import write_graph
from retrain.head import Head
from retrain.images import decode, read
from retrain.model import Model, load_model, save_model

pytestmark = NEEDS_TENSORFLOW
if find_module("tensorflow"):
    import keras
    import networks
    import tensorflow as tf

    v1 = tf.compat.v1

FLOAT = ["saved_model", "keras", "tflite", "onnx", "pb"]
BYTES = ["saved_model", "pb"]
COMMAND = [sys.executable, "-c", "from retrain.cli import main; main()", "export"]


@pytest.fixture(scope="module")
def home(sample, tmp_path_factory):
    """A folder of the model of two networks of different size, and of a cache for them in float32."""
    folder = tmp_path_factory.mktemp("home")
    train(sample, TrainOptions(model_dir=folder / "tf_files" / "model", quality="good", report=False))
    return folder


@pytest.fixture(scope="module")
def exported(home):
    """(folder of all exports, what the command printed as JSON), by one process."""
    environment = os.environ | {"TF_FILES": str(home / "tf_files"), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [*COMMAND, *FLOAT, "tflite-int8", "--json"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return home / "tf_files" / "export", {each["format"]: each for each in json.loads(done.stdout)["exports"]}


@pytest.fixture
def cache(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))


def random_model(*backbones):
    width = sum(backbone.spec.embedding_size for backbone in backbones)
    weights = np.random.default_rng(0).normal(0, 0.5, (3, width)).astype(np.float32)
    return Model(["a", "b", "c"], list(backbones), Head(weights, np.float32([0, 0.1, 0.2])), 0.8)


def squares(model, picture):
    return checking.squares([read(picture)], describe(model))


@pytest.mark.parametrize("name", [*FLOAT, "tflite-int8"])
def test_code_in_the_readme_says_what_guess_says(name, exported, home, picture, tmp_path):
    folder = shutil.copytree(exported[0] / name, tmp_path / "elsewhere")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert "retrain" not in re.sub(r"retrained_graph|models/retrain", "", code)
    assert (folder / "run.py").read_text() == code
    done = subprocess.run([sys.executable, "run.py", picture], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (guess,) = Classifier.load(home / "tf_files" / "model").guess([picture])
    rows = dict(re.findall(r"(\S+) \(score = (\S+)\)\n", done.stdout))
    assert next(iter(rows)) == guess.label
    assert {label: pytest.approx(float(score), abs=0.1) for label, score in rows.items()} == guess.scores


@pytest.mark.parametrize("name", FLOAT)
def test_formats_in_float_say_the_same_of_the_same_pixels(name, exported):
    told = exported[1][name]
    assert told["head"]["refitted"]
    assert told["differences"]["pixels"]["max"] < 1e-4
    readme = (exported[0] / name / "README.md").read_text()
    assert f"fitted to say of {told['head']['pictures']} pictures in float32" in readme
    assert ("EXIF is not applied" in readme) == (name in BYTES)


def test_graph_lies_where_the_programs_of_old_look(exported, home):
    graph = exported[0] / "pb" / "retrained_graph.pb"
    assert (home / "tf_files" / "retrained_graph.pb").read_bytes() == graph.read_bytes()
    assert (home / "tf_files" / "retrained_labels.txt").read_text().split() == ["boat", "fish", "house", "sun", "tree"]


def test_foreign_graph_beside_the_model_stays(exported, tmp_path):
    ours, path = (exported[0] / "pb" / "retrained_graph.pb").read_bytes(), tmp_path / "retrained_graph.pb"
    path.write_bytes(b"of 2016")
    writing._put_beside_model(ours, tmp_path / "model")
    assert path.read_bytes() == b"of 2016"
    path.write_bytes(ours)
    writing._put_beside_model(b"newer", tmp_path / "model")
    assert path.read_bytes() == b"newer"


def test_folder_in_the_place_of_the_graph_beside_the_model_stays(tmp_path):
    (tmp_path / "retrained_graph.pb").mkdir()
    writing._put_beside_model(b"ours", tmp_path / "model")
    assert (tmp_path / "retrained_graph.pb").is_dir()


def test_graph_is_fed_by_each_of_its_names_alone(exported, home, picture):
    content = (exported[0] / "pb" / "retrained_graph.pb").read_bytes()
    definition = v1.GraphDef.FromString(content)
    with tf.Graph().as_default(), v1.Session() as session:
        tf.import_graph_def(definition, name="import")

        def run(name, value):
            return session.run("import/final_result:0", {f"import/{name}:0": value})[0]

        model = load_model(home / "tf_files" / "model")
        (pixels,) = squares(model, picture)
        expected = run("input", (pixels[None] - 128) / 128)
        np.testing.assert_allclose(run("Mul", (pixels[None] - 128) / 128), expected, atol=1e-4)
        np.testing.assert_allclose(run("Placeholder", pixels[None] / 255), expected, atol=1e-4)
        np.testing.assert_allclose(run("DecodeJpeg/contents", picture.read_bytes()), expected, atol=0.02)
        image = decode(read(picture))
        np.testing.assert_allclose(run("DecodeJpeg", np.asarray(image)), expected, atol=0.02)
    assert {node.op for node in definition.node}.isdisjoint({"While", "PartitionedCall", "StatefulPartitionedCall"})


def test_output_of_the_graph_can_be_named(cache, tmp_path, home):
    model = load_model(home / "tf_files" / "model")
    write_graph(model, tmp_path / "new" / "graph.pb", "softmax_of_mine")
    assert "softmax_of_mine" in {
        node.name for node in v1.GraphDef.FromString((tmp_path / "new" / "graph.pb").read_bytes()).node
    }
    for name in ("input", "no name", ""):
        with pytest.raises(RetrainError, match=r"no tensor can be named|has a 'input' already"):
            write_graph(model, tmp_path / "graph.pb", name)
    assert not (tmp_path / "graph.pb").exists()


@pytest.mark.parametrize("encoding", ["PNG", "JPEG"])
def test_graphs_take_several_kinds_of_files(encoding, exported, picture, tmp_path):
    Image.open(picture).save(tmp_path / "picture", encoding)
    content = (tmp_path / "picture").read_bytes()
    found = [load_format(name).run_bytes(exported[0] / name)([content, content]) for name in BYTES]
    assert found[0].shape == (2, 5)
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_pictures_larger_than_the_square_are_cut_and_shrunk_as_ours(home, cache):
    from retrain.tf import pictures

    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (30, 20, 3), np.uint8)).resize((700, 900), Image.Resampling.BICUBIC)
    for size in [(700, 900), (900, 700), (100, 400), (301, 299)]:
        image = noise.resize(size)
        expected = load_backbone("efficientnet-lite0").to_input(image)
        found = pictures.to_square(tf.constant(np.asarray(image)), 224, 0.875)[0].numpy()
        assert np.abs(found - expected).max() <= 2  # Pillow rounds after each direction


def test_saved_model_answers_with_labels(exported, picture):
    loaded = tf.saved_model.load(str(exported[0] / "saved_model" / "models" / "retrain" / "1"))
    found = loaded.signatures["serving_default"](image_bytes=tf.constant([picture.read_bytes()] * 3))
    assert found["probabilities"].shape == (3, 5)
    assert [label.decode() for label in found["label"].numpy()] == ["tree"] * 3


def test_saved_model_holds_the_weights_once(exported):
    saved = exported[0] / "saved_model" / "models" / "retrain" / "1" / "saved_model.pb"
    assert saved.stat().st_size < 1.1 * (exported[0] / "pb" / "retrained_graph.pb").stat().st_size


def test_onnx_file_describes_itself(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported[0] / "onnx" / "model.onnx")
    kept = session.get_modelmeta().custom_metadata_map
    assert json.loads(kept["labels"]) == ["boat", "fish", "house", "sun", "tree"]
    assert json.loads(kept["preprocessing"])["crop"].startswith("the middle square")
    assert session.run(None, {"pixels": np.zeros((3, 240, 240, 3), np.float32)})[0].shape == (3, 5)


def test_network_that_learned_on_is_exported_by_its_own_weights(cache, tmp_path, picture, monkeypatch):
    from retrain.tf import convert, open_tuner

    monkeypatch.setattr(convert, "CALIBRATION_CROPS", 10)
    spec = find_spec("efficientnet-lite0-float32")
    tuner = open_tuner(spec)
    random = np.random.default_rng(0)
    tuner.upper.set_weights([each * random.uniform(0.9, 1.1, each.shape) for each in tuner.upper.get_weights()])
    content, _, weights = tuner.to_file()
    made = replace(spec, name="efficientnet-lite0-fine-tuned", weights_package="", weights_file="", mean=0.0, scale=1.0)
    tuned = Backbone(made, content, lambda: weights)
    plain = load_backbone("efficientnet-lite0")
    save_model(random_model(plain, tuned), tmp_path / "model")
    results = export(["keras", "tflite", "pb", "tflite-int8"], ExportOptions(tmp_path / "model", tmp_path / "out"))
    for told in results[:-1]:
        assert told["differences"]["pixels"]["max"] < 1e-3
    assert results[0]["head"]["why"].startswith("its pictures are not found")
    assert np.abs(tuned.embed(plain.to_input(decode(read(picture)))[None]) - plain.embed(
        plain.to_input(decode(read(picture)))[None]
    )).max() > 0.1  # fmt: skip


@pytest.mark.parametrize("arrays", [{"arr_0": np.zeros((2, 2))}, {"other": np.zeros(2)}, None])
def test_damaged_weights_of_a_network_that_learned_on_are_told(cache, tmp_path, arrays):
    weights = io.BytesIO(b"")
    if arrays:
        np.savez(weights, **arrays)
    plain = load_backbone("efficientnet-lite0")
    made = replace(plain.spec, name="efficientnet-lite0-fine-tuned", weights_package="")
    save_model(random_model(Backbone(made, plain.content, weights.getvalue)), tmp_path / "model")
    with pytest.raises(RetrainError, match="weights that efficientnet-lite0-float32 has learned are damaged"):
        export(["keras"], ExportOptions(tmp_path / "model", tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "formats"), [("MobileNetV2", ["keras", "tflite", "onnx", "pb"]), ("ResNet50", ["keras"])]
)
def test_networks_of_keras_keep_their_preprocessing(name, formats, tmp_path, picture, monkeypatch):
    from retrain.tf import applications, convert, convert_published, whole

    spec = find_spec(f"keras:{name},size=64")
    network = applications.build(spec, weights=None)
    for module in (convert, whole):
        monkeypatch.setattr(module, "build_keras", lambda _: network)
    content, suffix = convert_published(spec)
    assert suffix == ".tflite"
    save_model(random_model(Backbone(spec, content)), tmp_path / "model")
    for told in export(formats, ExportOptions(tmp_path / "model", tmp_path / "out")):
        assert told["differences"]["pixels"]["max"] < 1e-3


def without_litert(images, weights):
    return tf.math.igamma(networks.mean_of_map(images, weights) + 1.0, 1.0)


def test_network_that_litert_cannot_run_goes_where_tensorflow_goes(tmp_path):
    backbone = load_backbone(f"hub:{networks.save_reusable(tmp_path / 'module', compute=without_litert)}")
    save_model(random_model(backbone), tmp_path / "model")
    export(["saved_model", "pb"], ExportOptions(tmp_path / "model", tmp_path / "out"))
    for name, hint in [("keras", "saved_model, onnx, pb or zip"), ("tflite", "saved_model, onnx, pb or zip")]:
        with pytest.raises(RetrainError, match="hub:module") as caught:
            export([name], ExportOptions(tmp_path / "model", tmp_path / "out"))
        assert hint in caught.value.hint


def test_keras_file_holds_layers_of_keras_alone(exported):
    model = keras.saving.load_model(exported[0] / "keras" / "model.keras", safe_mode=True)
    assert model.input_shape == (None, 240, 240, 3)
    found = model(np.zeros((2, 240, 240, 3), np.float32))
    np.testing.assert_allclose(np.asarray(found).sum(axis=1), 1, atol=1e-5)


def test_missing_package_of_onnx_is_named(home, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(load_format("onnx"), "find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="tf2onnx, which is not installed"):
        export(["onnx"], ExportOptions(home / "tf_files" / "model", tmp_path / "out"))


def test_several_labels_become_a_graph(trained_on_labels, cache, tmp_path, picture):
    model = load_model(trained_on_labels[0] / "model")
    (told,) = export(["pb"], ExportOptions(trained_on_labels[0] / "model", tmp_path / "out"))
    assert told["head"]["refitted"]
    found = load_format("pb").run(tmp_path / "out" / "pb")(squares(model, picture))
    assert found.shape == (1, 3)
    assert found.sum() != pytest.approx(1, abs=1e-3)
