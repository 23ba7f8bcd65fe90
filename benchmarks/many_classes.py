"""The head of a thousand classes and a hundred thousand pictures: seconds and peak memory, in a process of its own."""

import sys

import numpy as np

from benchmarks.common import medians, run
from retrain.head import fit_head, search_C

CLASSES, ROWS, SIZE = 1_000, 100_000, 1_280
NOISE = 4.0  # of a picture around the mean of its class, in that mean's own spread: about three of four are told
HELD_OUT = 2_000


def measure(bench):
    done = run(sys.executable, "-m", "benchmarks.many_classes")
    strength, accuracy = done.output.split()[-2:]
    row = {"what": f"{CLASSES} classes, {ROWS} rows of {SIZE}", **medians([done]), "C": strength, "accuracy": accuracy}
    return {"rows": [row], "ratios": {}}


def main():
    random = np.random.default_rng(0)
    means = np.abs(random.normal(size=(CLASSES, SIZE))).astype(np.float32)
    labels = np.arange(ROWS) % CLASSES
    embeddings = draw(means, labels, random)
    search = search_C(embeddings, labels, [b"%d" % row for row in range(ROWS)], CLASSES)
    head = fit_head(embeddings, labels, CLASSES, search.C)
    asked = labels[:HELD_OUT]
    print(search.C, np.mean(head.logits(draw(means, asked, random)).argmax(axis=1) == asked))


def draw(means, labels, random):
    """Embeddings like those of a network: none below 0, of length 1."""
    rows = np.empty((len(labels), SIZE), np.float32)
    for start in range(0, len(labels), 5_000):
        part = means[labels[start : start + 5_000]]
        rows[start : start + 5_000] = np.maximum(part + NOISE * random.standard_normal(part.shape, np.float32), 0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


if __name__ == "__main__":
    main()
