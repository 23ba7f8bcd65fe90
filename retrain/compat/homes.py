"""What the old programs label pictures with: a graph where one is named, else the trained model."""

import os
from pathlib import Path

from retrain.classifier import Classifier
from retrain.dataset import legacy_labels
from retrain.errors import RetrainError
from retrain.graph_classifier import GraphClassifier, read_labels
from retrain.options import GraphOptions, tf_files

GRAPH = "retrained_graph.pb"
MOUNTED = Path("/tf_files")  # where the old container had it


def open_guesser(graph=None, labels=None, options=GraphOptions()):  # noqa: B008 - frozen
    """Guesser, and {label of its guesses: what the old programs called it}.

    graph, labels: files; None: the model in tf_files, which needs no TensorFlow, or where there is none, the graph
    there.  Raises RetrainError, also where labels and model do not fit together.
    """
    if graph:
        return _of_graph(graph, labels, options)
    homes = [tf_files()] if "TF_FILES" in os.environ else [tf_files(), MOUNTED]
    for home in homes:
        if (home / "model" / "model.json").exists():
            return _of_model(home / "model", labels)
        if (home / GRAPH).exists():
            return _of_graph(home / GRAPH, labels, options)
    raise RetrainError(
        f"there is neither model/ nor {GRAPH} in {homes[0]}.", "Train first, or name a graph with --graph."
    )


def _of_graph(graph, labels, options):
    guesser = GraphClassifier.load(graph, labels, options)
    return guesser, {label: label for label in guesser.labels}


def _of_model(folder, labels):
    guesser = Classifier.load(folder)
    names = read_labels(labels) if labels else legacy_labels(guesser.labels)
    if len(names) != len(guesser.labels):
        raise RetrainError(
            f"there are {len(names)} labels in {labels}, but {folder} has {len(guesser.labels)}.",
            "Name the labels file that was written with the model.",
        )
    return guesser, dict(zip(guesser.labels, names, strict=True))
