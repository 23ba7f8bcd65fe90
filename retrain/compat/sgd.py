"""The head of the original retrain.py: one softmax layer, taught by plain gradient descent.  Arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from retrain.metrics import log_loss, softmax

STDDEV = 0.001  # of the first weights


@dataclass
class Layer:
    """weights: float32 (D, C).  biases: float32 (C,)."""

    weights: np.ndarray
    biases: np.ndarray

    @classmethod
    def draw(cls, size, classes, random):
        """A new one: normally distributed, none further than two deviations off, as TensorFlow's truncated_normal."""
        weights = random.standard_normal((size, classes))
        while (far := np.abs(weights) > 2).any():
            weights[far] = random.standard_normal(far.sum())
        return cls((STDDEV * weights).astype(np.float32), np.zeros(classes, np.float32))

    def logits(self, embeddings):
        """embeddings: float32 (n, D).  Returns float32 (n, C)."""
        return embeddings @ self.weights + self.biases

    def step(self, embeddings, labels, learning_rate):
        """One step down the gradient of the mean cross-entropy.  labels: int (n,)."""
        errors = softmax(self.logits(embeddings))
        errors[np.arange(len(labels)), labels] -= 1
        rate = np.float32(learning_rate / len(labels))
        self.weights -= rate * (embeddings.T @ errors)
        self.biases -= rate * errors.sum(axis=0)

    def measure(self, embeddings, labels):
        """Share guessed right, and mean cross-entropy."""
        logits = self.logits(embeddings)
        return float(np.mean(logits.argmax(axis=1) == labels)), float(log_loss(logits, labels))


class Sampler:
    """Draws rows as the original did: a class, all alike, then one of its pictures, all alike, and puts them back."""

    def __init__(self, labels, rows, random):
        """labels: int (n,) of all rows.  rows: those that may be drawn; a class without any is never drawn."""
        order = rows[np.argsort(labels[rows], kind="stable")]
        _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
        self._order, self._starts, self._sizes, self._random = order, starts, sizes, random

    def __len__(self):
        return len(self._order)

    def draw(self, count):
        """So many rows, int (count,); all of them, once, where count is below 0."""
        if count < 0 or not len(self):
            return self._order
        classes = self._random.integers(len(self._sizes), size=count)
        return self._order[self._starts[classes] + self._random.integers(self._sizes[classes])]
