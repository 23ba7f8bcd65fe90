"""label_image.py with a graph: what each dialect takes for granted, and what graphs of ours know better."""

from importlib.util import find_spec as find_module

import numpy as np
import pytest

from retrain.compat import main

pytestmark = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.skipif(not find_module("tensorflow"), reason="TensorFlow is not installed"),
]
if find_module("tensorflow"):
    import tensorflow as tf

    v1 = tf.compat.v1


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "labels.txt").write_text("lower\nupper\n")
    return tmp_path


@pytest.fixture
def graph(folder):
    """graph(layer, side, ours=False): path of one that gives softmax([0, mean of what enters])."""

    def write(layer="input", side=None, ours=False, output="final_result"):
        with tf.Graph().as_default() as made:
            pixels = v1.placeholder(tf.float32, (None, side, side, 3), layer)
            mean = tf.reduce_mean(pixels, (1, 2, 3))
            tf.nn.softmax(tf.stack([tf.zeros_like(mean), mean], axis=1), name=output)
            if ours:
                tf.constant("", name="retrain")
        path = folder / "graph.pb"
        path.write_bytes(made.as_graph_def().SerializeToString())
        return path

    return write


@pytest.fixture
def white(folder):
    from PIL import Image

    Image.new("RGB", (80, 60), "white").save(folder / "white.png")
    return folder / "white.png"


@pytest.fixture
def entered(folder, white, capsys):
    """entered(graph, flag, …): the mean of the pixels that entered, of a white picture."""

    def run(*arguments, labels=True):
        given = ["--image", white, *(["--labels", folder / "labels.txt"] if labels else []), *arguments]
        assert main("label_image.py", list(map(str, given))) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("upper"))
        share = float(line.split()[-1].removeprefix("(score=").rstrip(")"))
        return np.log(share / (1 - share))

    return run


def test_examples_take_pixels_of_0_to_1(graph, entered):
    assert entered("--graph", graph()) == pytest.approx(1, abs=1e-4)
    assert entered("--graph", graph(), "--input_mean=128", "--input_std=128") == pytest.approx(127 / 128, abs=1e-4)
    assert entered("--graph", graph(), "--input_std", "51") == pytest.approx(5, abs=1e-3)


def test_poets_take_pixels_of_about_minus_1_to_1(graph, entered, folder, monkeypatch):
    (folder / "labels.txt").rename(folder / "retrained_labels.txt")
    graph().rename(folder / "retrained_graph.pb")
    monkeypatch.setenv("TF_FILES", str(folder))
    assert entered(labels=False) == pytest.approx(127 / 128, abs=1e-3)
    assert entered("--graph", folder / "retrained_graph.pb", labels=False) == pytest.approx(127 / 128, abs=1e-3)


def test_graph_of_ours_knows_its_pixels(graph, entered):
    assert entered("--graph", graph(side=32, ours=True)) == pytest.approx(127 / 128, abs=1e-4)
    path = graph("Placeholder", side=32, ours=True)
    assert entered("--graph", path, "--input_layer=Placeholder") == pytest.approx(1, abs=1e-4)


def test_graph_of_one_size_gets_that_size(graph, entered, caplog):
    path = graph(side=32)
    assert entered("--graph", path) == pytest.approx(1, abs=1e-4)
    assert not caplog.messages
    assert entered("--graph", path, "--input_height=299", "--input_width=299") == pytest.approx(1, abs=1e-4)
    assert caplog.messages == [f"{path} takes pictures of 32 x 32 px: no others are given."]


def test_layers_are_named(graph, entered, white, folder, capsys):
    path = graph("Mul", output="softmax_of_mine")
    assert entered("--graph", path, "--input_layer=Mul", "--output_layer=softmax_of_mine") == pytest.approx(1, abs=1e-4)
    arguments = ["--graph", path, "--labels", folder / "labels.txt", "--image", white, "--output_layer", "softmax"]
    assert main("label_image.py", list(map(str, arguments))) == 1
    assert "has no layer 'softmax'" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_graph_that_is_none_is_a_clear_error(content, folder, white, capsys):
    if content is not None:
        (folder / "g.pb").write_bytes(content)
    arguments = ["--graph", folder / "g.pb", "--labels", folder / "labels.txt", "--image", white]
    assert main("label_image.py", list(map(str, arguments))) == 1
    errors = capsys.readouterr().err
    assert "Error: " in errors and "g.pb" in errors and "Hint: " in errors


def test_predict_finds_the_tree_of_its_notebooks(graph, white, folder, monkeypatch, capsys):
    (folder / "TensorFlow_model" / "cpu").mkdir(parents=True)
    graph(side=32).rename(folder / "TensorFlow_model" / "cpu" / "output_graph.pb")
    (folder / "labels.txt").rename(folder / "TensorFlow_model" / "cpu" / "output_labels.txt")
    monkeypatch.chdir(folder)
    assert main("predict.py", [str(white)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(white)
