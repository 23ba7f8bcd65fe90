"""Evaluate: how good a trained model is on pictures it has not seen."""

import logging
import time

import numpy as np

from retrain.bottlenecks import Store, embed_files
from retrain.classifier import Classifier
from retrain.dataset import TESTING, find_dataset
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.metrics import summarize
from retrain.options import EvaluateOptions, default_model_dir
from retrain.recipes.training import skipped_rows, store_path

log = logging.getLogger("retrain")


def evaluate(data, options=EvaluateOptions()):  # noqa: B008 - frozen
    """Score a model on a folder with one folder a class; of a train/ and test/ layout on test/ alone.

    Returns what `evaluate --json` prints: the scores of `retrain.metrics.summarize`, counts, and the files skipped with
    their reason.  Raises RetrainError.
    """
    start = time.perf_counter()
    model_dir = options.model_dir or default_model_dir()
    classifier = Classifier.load(model_dir)
    classes = classifier.labels
    paths, labels = _find_labelled(data, classes, options.only)
    with Store(store_path(model_dir)) as store:
        embedded = embed_files(paths, classifier.model.backbones, store)
    if not embedded.kept:
        raise RetrainError(f"no pictures under {data}: {len(paths)} files looked at, all refused.", "Check the folder.")
    truth = np.array(labels)[embedded.kept]
    probabilities = classifier.probabilities_of(normalize(embedded.embeddings))
    return {
        **summarize(probabilities, truth, classes, options.threshold),
        "test_images": len(truth),
        "classes": classes,
        "images": len(truth),
        "skipped": skipped_rows(embedded),
        "threshold": options.threshold,
        "seconds": round(time.perf_counter() - start, 3),
        "model_dir": str(model_dir),
    }


def _find_labelled(data, classes, only):
    """Paths and class numbers of the pictures whose class the model knows."""
    dataset = find_dataset(data, only)
    foreign = sorted(set(dataset.classes) - set(classes))
    if foreign:
        log.warning("the model does not know %s: left out.", ", ".join(foreign))
    wanted = [
        row
        for row, label in enumerate(dataset.labels)
        if dataset.classes[label] in classes and (dataset.parts is None or dataset.parts[row] == TESTING)
    ]
    if not wanted:
        raise RetrainError(
            f"{data} holds no pictures of the model's classes.", f"It knows {', '.join(classes)}: one folder each."
        )
    return [dataset.paths[row] for row in wanted], [
        classes.index(dataset.classes[dataset.labels[row]]) for row in wanted
    ]
