"""Graphs of the original programs guess as they did, and those that could do more than compute are refused."""

import re
import shutil
from importlib.util import find_spec as find_module

import numpy as np
import pytest
from PIL import Image

from retrain.classifier import find_pictures
from retrain.errors import RetrainError
from retrain.graph_classifier import GraphClassifier, told_apart
from retrain.options import GraphOptions
from retrain.recipes.sorting import sort_dir

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(not find_module("tensorflow"), reason="TensorFlow is not installed"),
]
if find_module("tensorflow"):
    import original_graphs
    import tensorflow as tf

    from retrain.tf import safety
    from retrain.tf.original_graphs import _first_line

    HOSTILE = original_graphs.HOSTILE
else:
    HOSTILE = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def inception(folder):
    return original_graphs.inception(folder / "inception")


@pytest.fixture(scope="module")
def mobilenet(folder):
    return original_graphs.mobilenet(folder / "mobilenet")


@pytest.fixture(scope="module")
def photos(folder):
    """Paths of a dark, a light and an uneven JPEG of different sizes."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 60, (12, 9, 3), np.uint8)).resize((150, 200))
    for name, change in [("dark", lambda value: value), ("light", lambda value: 255 - value), ("uneven", (4).__mul__)]:
        noise.point(change).crop((0, 0, 150, 200 - 8 * len(name))).save(folder / f"{name}.jpg", quality=95)
    return [folder / f"{name}.jpg" for name in ("dark", "light", "uneven")]


def original(graph, feed, output="final_result:0"):
    """What the original programs read out of a graph."""
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(graph.read_bytes())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(definition, name="")
        return session.run(output, feed)[0]


def confidences(guess):
    return [guess.scores[label] for label in original_graphs.LABELS]


def scaled(path, mean, std, side=None):
    """Pixels as label_image.py makes them."""
    side = side or original_graphs.SIDE
    pixels = np.asarray(Image.open(path), np.float32)[None]
    return (tf.compat.v1.image.resize_bilinear(pixels, (side, side)).numpy() - mean) / std


def test_graph_of_2016_guesses_as_it_did_from_the_bytes(inception, photos):
    guesses = list(GraphClassifier.load(inception).guess(photos))
    assert [guess.label for guess in guesses[:2]] == ["dark", "light"]
    for guess, path in zip(guesses, photos, strict=True):
        expected = original(inception, {"DecodeJpeg/contents:0": path.read_bytes()})
        assert list(guess.scores.values()) == sorted(guess.scores.values(), reverse=True)
        assert confidences(guess) == pytest.approx(expected, abs=0.03)  # its decoder is a level off


def test_graph_of_2016_guesses_as_it_did_from_the_pixels(inception, photos):
    for guess, path in zip(GraphClassifier.load(inception).guess(photos), photos, strict=True):
        expected = original(inception, {"DecodeJpeg:0": np.asarray(Image.open(path))})
        assert confidences(guess) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("layer", ["DecodeJpeg/contents:0", "DecodeJpeg/contents", "DecodeJpeg", "DecodeJpeg:0"])
def test_the_graphs_decoder_is_named_in_each_way(inception, photos, layer):
    (named,) = GraphClassifier.load(inception, options=GraphOptions(input_layer=layer)).guess(photos[:1])
    (found,) = GraphClassifier.load(inception).guess(photos[:1])
    assert named == found


def test_pixels_enter_a_graph_of_2016_at_mul(inception, photos):
    options = GraphOptions(input_layer="Mul", input_height=original_graphs.SIDE)
    for guess, path in zip(GraphClassifier.load(inception, options=options).guess(photos), photos, strict=True):
        assert confidences(guess) == pytest.approx(original(inception, {"Mul:0": scaled(path, 128, 128)}), abs=1e-6)


def test_mobilenet_takes_pixels_of_minus_one_to_one(mobilenet, photos):
    for guess, path in zip(GraphClassifier.load(mobilenet).guess(photos), photos, strict=True):
        assert confidences(guess) == pytest.approx(original(mobilenet, {"input:0": scaled(path, 128, 128)}), abs=1e-6)


def test_hub_graph_takes_pixels_of_zero_to_one(tmp_path, photos):
    graph = original_graphs.mobilenet(tmp_path, "Placeholder")
    for guess, path in zip(GraphClassifier.load(graph).guess(photos), photos, strict=True):
        assert confidences(guess) == pytest.approx(original(graph, {"Placeholder:0": scaled(path, 0, 255)}), abs=1e-6)


def test_mean_and_deviation_that_are_told_win(mobilenet, photos):
    options = GraphOptions(input_mean=0, input_std=255)
    for guess, path in zip(GraphClassifier.load(mobilenet, options=options).guess(photos), photos, strict=True):
        assert confidences(guess) == pytest.approx(original(mobilenet, {"input:0": scaled(path, 0, 255)}), abs=1e-6)


def test_size_that_is_told_wins(tmp_path, photos):
    graph = original_graphs.mobilenet(tmp_path, side=None)
    options = GraphOptions(input_height=48)
    (guess,) = GraphClassifier.load(graph, options=options).guess(photos[:1])
    assert confidences(guess) == pytest.approx(
        original(graph, {"input:0": scaled(photos[0], 128, 128, side=48)}), abs=1e-6
    )


def test_output_of_another_name_is_found_and_can_be_named(tmp_path, photos):
    graph = original_graphs.inception(tmp_path, final_tensor_name="my_result")
    found, named = (
        next(GraphClassifier.load(graph, options=GraphOptions(output_layer=name)).guess(photos[:1]))
        for name in (None, "my_result:0")
    )
    assert found == named
    assert found.label == "dark"


def test_pictures_that_the_graph_cannot_read_are_read(inception, folder, photos):
    webp, lying = folder / "picture.webp", folder / "lying.jpg"
    upright = Image.open(photos[0])
    upright.save(webp, lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(lying, exif=exif, quality=95)
    expected, same, turned = GraphClassifier.load(inception).guess([photos[0], webp, lying])
    assert confidences(same) == confidences(expected)
    assert confidences(turned) == pytest.approx(confidences(expected), abs=0.02)


def test_bad_file_is_a_guess_with_an_error(inception, folder, photos):
    (folder / "no-picture.jpg").write_text("no picture")
    good, bad = GraphClassifier.load(inception).guess([photos[0], folder / "no-picture.jpg"])
    assert (good.error, bad.label) == (None, None)
    assert bad.error.startswith("not_an_image")


def test_pictures_side_by_side_are_guessed_as_alone(mobilenet, sample):
    classifier = GraphClassifier.load(mobilenet)
    paths = list(find_pictures([sample]))[:40]
    assert list(classifier.guess(paths)) == [classifier.guess_file(path) for path in paths]


def test_pictures_are_sorted_by_a_graph(mobilenet, photos, tmp_path):
    (tmp_path / "photos").mkdir()
    for path in photos[:2]:
        shutil.copy(path, tmp_path / "photos")
    result = sort_dir(tmp_path / "photos", tmp_path / "sorted", classifier=GraphClassifier.load(mobilenet))
    assert result["sorted"] == {"dark": 1, "light": 1, "neither": 0}
    assert (tmp_path / "sorted" / "light" / "light.jpg").is_file()


def test_confidence_below_the_threshold_is_unknown(mobilenet, photos):
    for threshold, unknown in [(0.5, False), (1, True)]:
        (guess,) = GraphClassifier.load(mobilenet, threshold=threshold).guess(photos[:1])
        assert (guess.label, guess.unknown) == ("dark", unknown)


@pytest.mark.parametrize("name", HOSTILE)
def test_operations_that_do_more_than_compute_are_named_and_refused(tmp_path, name):
    graph = original_graphs.inception(tmp_path, spoil=HOSTILE[name])
    with pytest.raises(RetrainError, match=rf"not on the list of those that only compute: (\w+, )*{name.split()[0]}\b"):
        GraphClassifier.load(graph)


def test_function_that_calls_itself_is_refused(tmp_path):
    graph = original_graphs.inception(tmp_path, spoil=original_graphs.in_itself)
    definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    (function,) = definition.library.function
    (call,) = [node for node in definition.node if node.op.endswith("PartitionedCall")]
    again = function.node_def.add()
    again.CopyFrom(call)
    again.input[:] = [function.signature.input_arg[0].name]
    graph.write_bytes(definition.SerializeToString())
    with pytest.raises(RetrainError, match="calls itself"):
        GraphClassifier.load(graph)


def test_function_does_not_hide_behind_an_operations_name(tmp_path):
    graph = original_graphs.inception(tmp_path, spoil=original_graphs.read_file)
    definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    definition.library.function.add().signature.name = "ReadFile"
    graph.write_bytes(definition.SerializeToString())
    with pytest.raises(RetrainError, match="ReadFile"):
        GraphClassifier.load(graph)


def test_listed_operations_exist_and_are_let_through_by_the_other_rule():
    files = {"DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeImage", "DecodeAndCropJpeg"}
    assert files <= safety.LISTED
    assert {name for name in safety.LISTED if safety._is_unsafe(name, {})} == set()


def test_graph_of_tensorflow_0_9_is_run(tmp_path, photos):
    """Its batch normalization was taken out of TensorFlow: only graphs that say how old they are may have it."""
    with tf.Graph().as_default() as graph:
        entry = tf.compat.v1.placeholder(tf.float32, (1, 32, 32, 3), name="Mul")
        original_graphs.classify(entry, "final_result")
    definition = graph.as_graph_def()
    node = definition.node.add(name="normalized", op="BatchNormWithGlobalNormalization")
    for name, value in [("mean", 0.1), ("variance", 0.2), ("beta", 0.3), ("gamma", 0.4)]:
        constant = definition.node.add(name=name, op="Const")
        constant.attr["dtype"].type = tf.float32.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.full(3, value, np.float32)))
    node.input.extend(["Mul", "mean", "variance", "beta", "gamma"])
    node.attr["T"].type = tf.float32.as_datatype_enum
    node.attr["variance_epsilon"].f = 0.001
    node.attr["scale_after_normalization"].b = True
    for each in definition.node:
        if each.name not in ("normalized", "Mul"):
            for number, name in enumerate(each.input):
                each.input[number] = "normalized" if name == "Mul" else name
        each.device = "/job:worker/gpu:3"
    definition.versions.producer = 8
    path = tmp_path / "retrained_graph.pb"
    path.write_bytes(definition.SerializeToString())
    (tmp_path / "retrained_labels.txt").write_text("\n".join(original_graphs.LABELS))
    (guess,) = GraphClassifier.load(path).guess(photos[:1])
    assert guess.label in original_graphs.LABELS


def cut(graph):
    graph.write_bytes(graph.read_bytes()[:-100])


def lose_node(graph):
    definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    del definition.node[3]
    graph.write_bytes(definition.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "damaged"),
        (lose_node, "damaged"),
        (lambda graph: graph.write_bytes(b""), "holds no graph"),
        (lambda graph: graph.write_text("a text"), "damaged, or no frozen graph"),
        (lambda graph: graph.unlink(), "cannot be read: No such file"),
        (lambda graph: graph.with_name("retrained_labels.txt").unlink(), "no labels file"),
        (lambda graph: graph.with_name("retrained_labels.txt").write_text("\n\n"), "holds no labels"),
        (lambda graph: graph.with_name("retrained_labels.txt").write_text("a\nb"), "2 labels, but .* gives 3 numbers"),
    ],
)
def test_what_is_damaged_is_told(tmp_path, spoil, message):
    graph = original_graphs.inception(tmp_path)
    spoil(graph)
    with pytest.raises(RetrainError, match=message) as error:
        GraphClassifier.load(graph)
    assert error.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GraphOptions(output_layer="final_reslt"), "no layer 'final_reslt'.*It has .*final_result"),
        (GraphOptions(input_layer="DecodeJPG/content"), "no layer 'DecodeJPG/content'.*It has .*DecodeJpeg/contents"),
        (GraphOptions(output_layer="final_result:7"), "no layer 'final_result:7'"),
        (GraphOptions(output_layer="Cast"), "not one number a label"),
        (GraphOptions(input_layer="conv/weights"), "no picture can enter"),
        (GraphOptions(input_layer="pool_3"), "no picture can enter"),
        (GraphOptions(input_height=224), "scales pictures itself"),
        (GraphOptions(input_layer="Mul", input_std=0), "which pixels Mul:0 takes"),
    ],
)
def test_layers_that_do_not_fit_are_told(inception, options, message):
    with pytest.raises(RetrainError) as error:
        GraphClassifier.load(inception, options=options)
    assert re.search(message, f"{error.value} {error.value.hint}")


def test_picture_of_a_size_that_the_graph_refuses_is_told(mobilenet):
    with pytest.raises(RetrainError, match=r"does not run from input:0 to final_result:0.*48, 48"):
        GraphClassifier.load(mobilenet, options=GraphOptions(input_height=48, input_width=48))


def test_unknown_input_asks_for_what_it_takes(tmp_path):
    graph = original_graphs.mobilenet(tmp_path, "images", side=None)
    with pytest.raises(RetrainError, match="how large"):
        GraphClassifier.load(graph)
    with pytest.raises(RetrainError, match="which pixels"):
        GraphClassifier.load(graph, options=GraphOptions(input_height=32))
    told = GraphOptions(input_height=32, input_mean=128, input_std=128)
    assert GraphClassifier.load(graph, options=told).labels == original_graphs.LABELS


def test_labels_of_one_name_are_told_apart(tmp_path, photos):
    graph = original_graphs.mobilenet(tmp_path)
    graph.with_name("retrained_labels.txt").write_bytes(b"\xef\xbb\xbfc \r\nc \r\n \r\n")
    (guess,) = GraphClassifier.load(graph).guess(photos[:1])
    assert set(guess.scores) == {"c", "c (2)", "(3)"}


def test_label_like_one_told_apart_is_told_apart():
    assert told_apart(["c", "c (3)", "c"]) == ["c", "c (3)", "c (3) (3)"]


def test_labels_of_an_export_are_found_beside_its_graph(tmp_path):
    graph = original_graphs.mobilenet(tmp_path)
    graph.with_name("retrained_labels.txt").rename(tmp_path / "labels.txt")
    assert GraphClassifier.load(graph).labels == original_graphs.LABELS


def test_what_tensorflow_complains_of_is_told_without_its_heading():
    message = "Graph execution error:\n\nDetected at node 'Fill':\nNode: 'Fill'\nOOM when allocating\n\t[[Fill]]"
    assert _first_line(ValueError(message)) == "OOM when allocating"
    assert _first_line(KeyError()) == "KeyError"
