"""Photos of ImageNet classes under the shipped classifier: how many it names rightly, and how fast."""

import os
from pathlib import Path

from benchmarks.common import seconds_of
from retrain.imagenet import load_imagenet
from retrain.metrics import wilson_interval


def measure(bench):
    folder = Path(os.environ.get("RETRAIN_TEST_DATA", "")) / "imagenet"
    if not folder.is_dir():
        return {"rows": [], "ratios": {"left out, needs RETRAIN_TEST_DATA with": "imagenet"}}
    classifier, truth, guesses = load_imagenet(), read_truth(folder), []
    seconds = seconds_of(lambda: guesses.extend(classifier.guess_files(truth)))
    rows = [_row(top, guesses, [classifier.labels[number] for number in truth.values()]) for top in (1, 5)]
    return {"rows": rows, "ratios": {"photos/s": round(len(truth) / seconds)}}


def read_truth(folder):
    """{path: number of its class} of the photos that `labels.tsv` of that folder lists."""
    rows = [line.split("\t") for line in (folder / "labels.tsv").read_text().splitlines()[1:]]
    return {folder / name: int(number) for name, number, *_ in rows}


def _row(top, guesses, labels):
    right = sum(label in list(guess.scores)[:top] for guess, label in zip(guesses, labels, strict=True))
    low, high = wilson_interval(right, len(labels))
    interval = f"{100 * low:.1f}-{100 * high:.1f}"
    return {"what": f"top {top}", "photos": len(labels), "%": round(100 * right / len(labels), 1), "95 %": interval}
