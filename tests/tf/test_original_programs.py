"""The original programs load `retrained_graph.pb` as they loaded their own, and see what `retrain guess` sees.

What they did is written down here as it is known of label_image.py, label_dir.py and classify.py, in their dialects.
"""

import os
from importlib.util import find_spec as find_module
from pathlib import Path

import numpy as np
import pytest
from marks import NEEDS_TENSORFLOW

from retrain import Classifier, TrainOptions, train
from retrain.classifier import find_pictures
from retrain.errors import RetrainError
from retrain.exports.pb import write_graph
from retrain.graph_classifier import GraphClassifier
from retrain.images import decode, read

pytestmark = NEEDS_TENSORFLOW
if find_module("tensorflow"):
    import tensorflow as tf

    v1 = tf.compat.v1

SIDE = 224  # px


def read_labels(path):
    """As all of them do."""
    return [line.rstrip() for line in v1.gfile.GFile(str(path))]


def label_images(graph_path, files):
    """{path: softmax} as label_image.py and label_dir.py of 2016 make them: bytes in, `final_result:0` out."""
    with tf.Graph().as_default():
        with v1.gfile.FastGFile(str(graph_path), "rb") as file:
            definition = v1.GraphDef()
            definition.ParseFromString(file.read())
            tf.import_graph_def(definition, name="")
        with v1.Session() as session:
            softmax = session.graph.get_tensor_by_name("final_result:0")
            return {
                path: session.run(softmax, {"DecodeJpeg/contents:0": v1.gfile.FastGFile(str(path), "rb").read()})[0]
                for path in files
            }


def load_graph(graph_path):
    """As label_image.py of the codelab and of TensorFlow's examples does: all its names begin with `import/`."""
    graph, definition = tf.Graph(), v1.GraphDef()
    definition.ParseFromString(graph_path.read_bytes())
    with graph.as_default():
        tf.import_graph_def(definition)
    return graph


def read_tensor(path, height, width, mean, std):
    """float32 (1, height, width, 3), as the same program makes it."""
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = tf.image.decode_jpeg(tf.io.read_file(str(path)), channels=3, name="jpeg_reader")
        resized = v1.image.resize_bilinear(tf.expand_dims(tf.cast(pixels, tf.float32), 0), [height, width])
        return session.run(tf.divide(tf.subtract(resized, [mean]), [std]))


def run_tensor(graph, tensor, input_layer="input", output_layer="final_result"):
    entry = graph.get_operation_by_name(f"import/{input_layer}").outputs[0]
    output = graph.get_operation_by_name(f"import/{output_layer}").outputs[0]
    with v1.Session(graph=graph) as session:
        return np.squeeze(session.run(output, {entry: tensor}))


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(data, backbone): the folder of a model trained on it, and of its graph and labels."""

    def make(data, backbone):
        folder = tmp_path_factory.mktemp("tf_files")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "built"))
            train(data, TrainOptions(model_dir=folder / "model", backbone=backbone, report=False))
            write_graph(Classifier.load(folder / "model").model, folder / "retrained_graph.pb")
        return folder

    return make


@pytest.fixture(scope="module")
def float32(make, sample):
    return make(sample, "efficientnet-lite0-float32")


@pytest.fixture(scope="module")
def int8(make, sample):
    return make(sample, "efficientnet-lite0")


def pictures(folder):
    return [path for path in sorted(folder.rglob("*.jpg")) if path.is_file()]


def in_order(classifier, guess):
    return np.array([guess.scores[label] for label in classifier.labels])


def agreement(found, classifier):
    """(share of pictures with the label of `retrain guess`, all differences of the confidences)."""
    guesses = {Path(guess.path): in_order(classifier, guess) for guess in classifier.guess_files(found)}
    same = [softmax.argmax() == guesses[path].argmax() for path, softmax in found.items()]
    return np.mean(same), np.abs([softmax - guesses[path] for path, softmax in found.items()])


def furthest(folder, files):
    """Largest difference between the graph and our float32 path, fed the same pixels."""
    classifier, graph = Classifier.load(folder / "model"), load_graph(folder / "retrained_graph.pb")
    (backbone,) = classifier.model.backbones
    found = []
    with v1.Session(graph=graph) as session:
        for path in files:
            image = decode(read(path))
            tensor = (backbone.to_input(image)[None].astype(np.float32) - 128) / 128
            softmax = session.run("import/final_result:0", {"import/input:0": tensor})[0]
            found.append(np.abs(softmax - in_order(classifier, classifier.guess_image(image))).max())
    return max(found)


def test_bytes_of_a_jpeg_give_the_labels_of_guess(int8, sample):
    same, differences = agreement(
        label_images(int8 / "retrained_graph.pb", pictures(sample)), Classifier.load(int8 / "model")
    )
    assert same >= 0.97
    assert np.median(differences) <= 0.01


def test_same_pixels_give_the_confidences_of_our_float32_path(float32, sample):
    assert furthest(float32, pictures(sample)[::3]) <= 1e-3


def test_labels_stand_in_the_order_of_the_outputs(int8, sample):
    labels = read_labels(int8 / "retrained_labels.txt")
    assert labels == sorted(path.name for path in sample.iterdir() if path.is_dir())
    for path, softmax in label_images(int8 / "retrained_graph.pb", pictures(sample)[::12]).items():
        assert labels[softmax.argsort()[-1]] == path.parent.name


@pytest.mark.parametrize(
    ("input_layer", "mean", "std"), [("input", 128, 128), ("Mul", 128, 128), ("Placeholder", 0, 255)]
)
def test_scaled_pixels_enter_by_each_of_the_old_names(float32, sample, input_layer, mean, std):
    labels, graph = read_labels(float32 / "retrained_labels.txt"), load_graph(float32 / "retrained_graph.pb")
    for path in pictures(sample)[::24]:
        results = run_tensor(graph, read_tensor(path, SIDE, SIDE, mean, std), input_layer)
        assert results.sum() == pytest.approx(1, abs=1e-5)
        assert labels[results.argmax()] == path.parent.name


def test_mean_and_deviation_are_those_of_the_flags(float32, sample):
    """The same picture by each name, scaled as that name asks, gives one answer."""
    graph, path = load_graph(float32 / "retrained_graph.pb"), pictures(sample)[0]
    signed = run_tensor(graph, read_tensor(path, SIDE, SIDE, 128, 128), "input")
    unit = run_tensor(graph, read_tensor(path, SIDE, SIDE, 0, 255), "Placeholder")
    assert signed == pytest.approx(unit, abs=1e-5)


def test_output_bears_the_name_that_was_asked_for(int8, sample, tmp_path):
    path = tmp_path / "graph.pb"
    write_graph(Classifier.load(int8 / "model").model, path, "my_result")
    tensor = read_tensor(pictures(sample)[0], SIDE, SIDE, 128, 128)
    found = run_tensor(load_graph(path), tensor, output_layer="my_result")
    assert found == pytest.approx(run_tensor(load_graph(int8 / "retrained_graph.pb"), tensor), abs=1e-6)


@pytest.mark.parametrize("name", ["Mul", "whole", "a b", ""])
def test_output_cannot_take_a_name_that_is_taken_or_is_none(int8, tmp_path, name):
    with pytest.raises(RetrainError, match=r"already|can be named"):
        write_graph(Classifier.load(int8 / "model").model, tmp_path / "graph.pb", name)
    assert not list(tmp_path.glob("*.pb"))


def test_our_own_graph_is_read_as_any_old_one(float32, sample):
    """`retrain guess --graph` on it says what `retrain guess` says of the model."""
    classifier, graph = Classifier.load(float32 / "model"), GraphClassifier.load(float32 / "retrained_graph.pb")
    found = {Path(guess.path): in_order(graph, guess) for guess in graph.guess_files(pictures(sample)[::3])}
    same, differences = agreement(found, classifier)
    assert same >= 0.97
    assert np.median(differences) <= 0.01  # the graph scales pictures itself


@pytest.mark.real
@pytest.mark.skipif(not os.environ.get("RETRAIN_TEST_DATA"), reason="RETRAIN_TEST_DATA names no real pictures")
class TestOnPhotos:
    def test_bytes_of_a_jpeg_give_the_labels_of_guess(self, make, real_data):
        folder = make(real_data / "flowers" / "train", "efficientnet-lite0")
        found = label_images(folder / "retrained_graph.pb", find_pictures([real_data / "flowers" / "test"]))
        same, differences = agreement(found, Classifier.load(folder / "model"))
        print(len(found), same, np.median(differences), np.percentile(differences.max(axis=1), [50, 90, 99, 100]))
        assert len(found) == 200
        assert same >= 0.97
        assert np.median(differences) <= 0.01

    def test_same_pixels_give_the_confidences_of_our_float32_path(self, make, real_data):
        folder = make(real_data / "flowers" / "train", "efficientnet-lite0-float32")
        found = furthest(folder, find_pictures([real_data / "flowers" / "test"]))
        print(found)
        assert found <= 1e-3
