"""The old retrain.py beside our own training: seconds, and how many pictures of a test that neither saw are told."""

import sys
from pathlib import Path

from benchmarks.common import RETRAIN, run
from retrain import Classifier, draw_sample
from retrain.dataset import find_dataset, find_parts
from retrain.graph_classifier import GraphClassifier
from retrain.metrics import wilson_interval
from retrain.options import SampleOptions

PROGRAM = Path(__file__).parents[1] / "scripts" / "compat" / "retrain.py"
STEPS = 500, 4000  # of the courses; by default
DRAWN = SampleOptions(per_class=40, seed=1)


def measure(bench):
    tested, rows = find_dataset(_test_of(bench)), []
    for steps in STEPS:
        folder = bench.fresh()
        ran = run(sys.executable, PROGRAM, *_flags(bench.photos, folder, steps))
        rows.append(_row(f"retrain.py, {steps} steps: the graph", tested, _graph(folder), ran.seconds))
        rows.append(_row(f"retrain.py, {steps} steps: the model", tested, Classifier.load(folder / "model")))
    for backbone in ("efficientnet-lite0-float32", "efficientnet-lite0"):
        folder = bench.fresh() / "model"
        ran = run(RETRAIN, "train", bench.photos, "--no-report", "--backbone", backbone, "--model-dir", folder)
        rows.append(_row(f"retrain train, {backbone}", tested, Classifier.load(folder), ran.seconds))
    old, ours = rows[0]["%"], rows[-1]["%"]
    return {"rows": rows, "ratios": {"points that our head gains on 500 steps": round(ours - old, 1)}}


def _test_of(bench):
    """Folder of pictures that neither side learns."""
    if find_parts(bench.photos.parent):
        return bench.photos.parent / "test"
    draw_sample(bench.folder / "test", DRAWN)
    return bench.folder / "test"


def _flags(photos, folder, steps):
    places = {
        "image_dir": photos, "how_many_training_steps": steps, "bottleneck_dir": folder / "bottlenecks",
        "output_graph": folder / "graph.pb", "output_labels": folder / "labels.txt", "summaries_dir": folder / "logs",
        "checkpoint_path": folder / "layer",
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in places.items()]


def _graph(folder):
    return GraphClassifier.load(folder / "graph.pb", folder / "labels.txt")


def _row(what, tested, guesser, seconds=None):
    guesses = [guess.label for guess in guesser.guess_files(tested.paths)]
    right = sum(label == tested.classes[truth] for label, truth in zip(guesses, tested.labels, strict=True))
    low, high = wilson_interval(right, len(guesses))
    row = {"what": what, "photos": len(guesses), "%": round(100 * right / len(guesses), 1)}
    row["95 %"] = f"{100 * low:.1f}-{100 * high:.1f}"
    return row | ({} if seconds is None else {"seconds": round(seconds, 1)})
