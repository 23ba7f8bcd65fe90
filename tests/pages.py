"""Models and what their page is made of, drawn."""

import numpy as np
from PIL import Image

from retrain.backbones import load_backbone
from retrain.head import Head
from retrain.metrics import Judged, reliability, summarize
from retrain.model import Model
from retrain.report import Evidence

CURVE = {
    "points": [
        {"images": images, "accuracy": accuracy, "interval": [accuracy - 0.05, accuracy + 0.03]}
        for images, accuracy in [(10, 0.7), (20, 0.8), (40, 0.85), (80, 0.95)]
    ],
    "gain": {"gain": 0.15, "interval": [0.1, 0.2]},
    "gains": [{"gain": 0.15, "interval": [0.1, 0.2]}, {"gain": 0.05, "interval": [-0.1, 0.2]}],
    "helps_most": [],
}


def make_model(classes, counts=None):
    """A model with a head at random."""
    weights = np.random.default_rng(0).normal(size=(len(classes), 1280)).astype(np.float32)
    model = Model(list(classes), [load_backbone("efficientnet-lite0")], Head(weights, weights[:, 0]), 0.9)
    model.info = {
        "counts": dict.fromkeys(classes, 30) | (counts or {}),
        "head": {"kind": "multinomial logistic regression", "C": 30.0},
        "options": {"split": "content", "only": []},
        "versions": {"retrain": "0.1.0"},
        "data_sha256": "0" * 64,
        "unknown": {"reject_rate": 0.05, "calibrated_on": 80, "images": 0},
    }
    return model


def make_pictures(folder, names, size=(64, 48)):
    """Paths of pictures of noise, which compress badly."""
    folder.mkdir(parents=True, exist_ok=True)
    random, paths = np.random.default_rng(0), [folder / name for name in names]
    for path in paths:
        with open(path, "wb") as file:
            Image.fromarray(random.integers(0, 256, (*size[::-1], 3), np.uint8)).save(file, "JPEG")
    return paths


def make_evidence(classes, paths, truth, guesses, confidences=None, tested=True, **others):
    """Evidence of these pictures, guessed as told."""
    truth, guesses = np.array(truth, int), np.array(guesses, int)
    confidences = np.linspace(0.6, 0.99, len(truth)) if confidences is None else np.array(confidences)
    probabilities = np.repeat((1 - confidences[:, None]) / max(len(classes) - 1, 1), len(classes), axis=1)
    probabilities[np.arange(len(truth)), guesses] = confidences
    probabilities = probabilities.astype(np.float32)
    judged = Judged(list(paths), truth, probabilities, np.full(len(truth), tested))
    others.setdefault("reliability_before", reliability(probabilities, truth))
    return Evidence(judged, summarize(probabilities, truth, list(classes), others.pop("threshold", 0.0)), **others)
