"""`retrain guess --graph`: what it prints, and what it refuses."""

import json
import subprocess
import sys
from importlib.util import find_spec as find_module
from pathlib import Path

import pytest

import retrain.tf

needs_tensorflow = [
    pytest.mark.tf,
    pytest.mark.skipif(not find_module("tensorflow"), reason="TensorFlow is not installed"),
]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    import original_graphs

    return original_graphs.inception(tmp_path_factory.mktemp("graph"))


def is_one_clear_error(result, *words):
    code, out, err = result
    lines = err.splitlines()
    return (code, out) == (1, b"") and lines[0].startswith("Error: ") and all(word in err for word in words)


class TestWithTensorFlow:
    pytestmark = needs_tensorflow

    def test_labels_are_printed_best_first(self, run, picture, graph):
        code, out, _ = run("guess", "--graph", graph, picture)
        scores = [float(line.rpartition(" ")[2].rstrip(")")) for line in out.decode().splitlines()]
        assert code == 0
        assert scores == sorted(scores, reverse=True)
        assert {line.partition(" (")[0] for line in out.decode().splitlines()} == {"dark", "light", "neither"}

    def test_a_process_of_its_own_says_nothing_else(self, run, picture, graph):
        _, expected, _ = run("guess", "--graph", graph, picture)
        command = [Path(sys.executable).with_name("retrain"), "guess", "--graph", graph, picture]
        done = subprocess.run(command, capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (expected, b"")

    def test_json_has_all_keys(self, run, picture, graph):
        _, out, _ = run("guess", "--graph", graph, "--json", "--threshold", "1", picture)
        row = json.loads(out)
        assert (row["unknown"], row["error"], row["candidates"]) == (True, None, None)
        assert row["confidence"] == row["scores"][row["label"]]

    def test_labels_give_the_terminal_no_orders(self, run, picture, graph, tmp_path):
        (tmp_path / "names.txt").write_text("\x07a\nb\nmi\u200cx\n", "utf-8")
        _, out, _ = run("guess", "--graph", graph, "--labels", tmp_path / "names.txt", picture)
        assert {line.partition(" (")[0] for line in out.decode().splitlines()} == {"?a", "b", "mi\u200cx"}

    def test_named_labels_and_layers_are_used(self, run, picture, graph, tmp_path):
        (tmp_path / "names.txt").write_text("a\nb\nc\n")
        options = ["--labels", tmp_path / "names.txt", "--input-layer", "Mul", "--output-layer", "final_result"]
        size = ["--input-height", "32", "--input-width", "32", "--input-mean", "128", "--input-std", "128"]
        code, out, _ = run("guess", "--graph", graph, *options, *size, "--top", "1", picture)
        assert (code, out.decode()[:4] in ("a (s", "b (s", "c (s")) == (0, True)

    def test_standard_input_is_read(self, run, picture, graph):
        _, expected, _ = run("guess", "--graph", graph, picture)
        assert run("guess", "--graph", graph, "-", stdin=picture.read_bytes()) == (0, expected, "")

    def test_bad_file_goes_on_and_exits_with_3(self, run, picture, graph, tmp_path):
        (tmp_path / "bad.jpg").write_text("no picture")
        code, out, _ = run("guess", "--graph", graph, "--json", tmp_path / "bad.jpg", picture)
        assert (code, [json.loads(line)["error"] is None for line in out.splitlines()]) == (3, [False, True])

    def test_unknown_layer_is_one_clear_error_with_the_nearest_names(self, run, picture, graph):
        result = run("guess", "--graph", graph, "--output-layer", "final_reslt", picture)
        assert is_one_clear_error(result, "final_reslt", "Hint: It has final_result")


def test_without_tensorflow_it_says_how_to_get_it(run, picture, tmp_path, monkeypatch):
    (tmp_path / "retrained_graph.pb").write_bytes(b"")
    (tmp_path / "retrained_labels.txt").write_text("a\n")
    monkeypatch.setattr(retrain.tf.importlib.util, "find_spec", lambda name: None)
    result = run("guess", "--graph", tmp_path / "retrained_graph.pb", picture)
    assert is_one_clear_error(result, "needs TensorFlow", "make setup-full")


@pytest.mark.parametrize(
    "options", [["--coverage", "0.9"], ["--reject-rate", "0"], ["--explain", "why"], ["--model-dir", "model"]]
)
def test_what_only_a_trained_model_can_is_refused_for_a_graph(run, picture, options):
    code, _, err = run("guess", "--graph", "graph.pb", *options, picture)
    assert (code, f"{options[0]} is for a model" in err) == (2, True)


@pytest.mark.parametrize("options", [["--labels", "labels.txt"], ["--input-layer", "Mul"], ["--input-mean", "0"]])
def test_what_only_a_graph_has_is_refused_without_one(run, picture, model_dir, options):
    code, _, err = run("guess", *options, picture)
    assert (code, f"{options[0]} is for a --graph" in err) == (2, True)


def test_names_in_an_error_stay_on_its_line(run, picture, tmp_path):
    code, _, err = run("guess", "--model-dir", tmp_path / "no\x07\nError: model", picture)
    assert code == 1
    assert err.splitlines()[0].endswith("/no??Error: model.")
