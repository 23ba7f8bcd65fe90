"""Guess with a graph and a labels file of the original programs; TensorFlow runs it."""

from pathlib import Path

import numpy as np
from PIL import Image

from retrain.classifier import Guess, Guesser
from retrain.errors import RetrainError
from retrain.options import GraphOptions

MAX_BYTES = 2_000_000_000  # 2 GB; protobuf reads no more


class GraphClassifier(Guesser):
    """A graph of the original programs, ready to guess.  Its confidences are the graph's own, not calibrated."""

    def __init__(self, graph, labels, threshold=0.0):
        """graph: an OriginalGraph.  labels: as in the file.  threshold: below this confidence a picture is unknown."""
        self.graph, self.labels, self.threshold = graph, told_apart(labels), threshold
        outputs = len(graph.run(Image.new("RGB", (299, 299), "gray")))
        if outputs != len(labels):
            raise RetrainError(
                f"there are {len(labels)} labels, but {graph.name} gives {outputs} numbers.",
                "Name the labels file that was written with the graph.",
            )

    @classmethod
    def load(cls, graph, labels=None, options=GraphOptions(), threshold=0.0):  # noqa: B008 - frozen
        """GraphClassifier of two files; the labels' by default beside the graph, named as the graph's.

        Raises RetrainError.
        """
        from retrain.tf import open_original

        lines = read_labels(labels or labels_beside(graph))
        return cls(open_original(str(graph), _read(graph, "graph"), options), lines, threshold)

    def guess_image(self, image, path="-"):
        confidences = self.graph.run(image)
        order = np.argsort(-confidences, kind="stable")
        scores = {self.labels[number]: float(confidences[number]) for number in order}
        label = next(iter(scores))
        return Guess(str(path), label, scores[label], scores, unknown=scores[label] < self.threshold)


def read_labels(path):
    """The labels of a file, one a line.  Raises RetrainError."""
    text = _read(path, "labels").decode("utf-8-sig", "replace")
    labels = [line.strip() for line in text.rstrip("\r\n").split("\n")]
    if not any(labels):
        raise RetrainError(f"{path} holds no labels.", "It has one a line, in the order of the graph's outputs.")
    return labels


def labels_beside(graph):
    """Path of a graph's labels: `retrained_labels.txt` beside `retrained_graph.pb`, else `labels.txt`."""
    graph = Path(graph)
    labels = graph.with_name(graph.stem.replace("graph", "labels") + ".txt")
    for path in (labels, graph.with_name("labels.txt")):  # which lies beside the graph of an export
        if path.is_file():
            return path
    raise RetrainError(f"there is no labels file {labels}.", "--labels names the one that belongs to the graph.")


def _read(path, what):
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES)
    except OSError as error:
        raise RetrainError(f"the {what} file {path} cannot be read: {error.strerror}.", "Check the path.") from error
    return content


def told_apart(labels):
    """Labels with their line's number behind those that were there before, such as `c` of C++ and of C#."""
    told = {}  # in order
    for number, label in enumerate(labels, 1):
        name = label
        while not name or name in told:
            name = f"{name} ({number})".strip()
        told[name] = number
    return list(told)
