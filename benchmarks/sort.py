"""Sorting a folder of photos into copies, beside guessing them and beside copying them."""

from shutil import copytree
from statistics import median

from benchmarks.common import RETRAIN, run, seconds_of
from retrain.classifier import find_pictures


def measure(bench):
    run(RETRAIN, "train", bench.photos, "--no-report", "--model-dir", bench.folder / "model")
    environment = {"TF_FILES": str(bench.folder)}
    sides = {
        "sort": lambda: run(RETRAIN, "sort", bench.photos, bench.fresh() / "sorted", **environment).seconds,
        "guess": lambda: run(RETRAIN, "guess", "--json", bench.photos, **environment).seconds,
        "copy": lambda: seconds_of(lambda: copytree(bench.photos, bench.fresh() / "copy")),
    }
    seconds = bench.alternate(sides)
    count = sum(1 for _ in find_pictures([bench.photos]))
    pairs = zip(seconds["guess"], seconds["sort"], strict=True)
    return {
        "rows": [
            {"what": name, "seconds": round(median(each), 3), "images/s": round(count / median(each))}
            for name, each in seconds.items()
        ],
        "ratios": {"sort / guess, images/s": round(median(guess / sort for guess, sort in pairs), 2)},
    }
