"""Two people side by side in one photo: whether both are told, by how many such photos were learned."""

import csv
import os
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageOps

from retrain import Classifier, TrainOptions, train
from retrain.metrics import wilson_interval

PEOPLE = ["darth_vader", "elsa"]
LEARNED = 400  # pictures
SIDE = 336  # px


def measure(bench):
    photos = Path(os.environ.get("RETRAIN_TEST_DATA", "")) / "superheroes"
    if not photos.is_dir():
        return {"rows": [], "ratios": {"left out, needs RETRAIN_TEST_DATA with": "superheroes"}}
    return {"rows": [row_of(share, *learn(photos, bench.fresh(), share)) for share in (0.33, 0.05, 0)], "ratios": {}}


def learn(photos, folder, share):
    """Train on photos of one person each and, in this share of them, of both.

    photos: a folder with train/ and test/, of which each pair and each photo alone is tested.
    Returns what `train` does, and a (Guess, true labels) of each pair, then of each photo alone.
    """
    random, seen, unseen = Random(0), _people(photos / "train"), _people(photos / "test")
    both = round(share * LEARNED)
    pairs = [random.sample([random.choice(paths) for paths in seen], 2) for _ in range(both)]
    alone = [[random.choice(random.choice(seen))] for _ in range(LEARNED - both)]
    write(pairs + alone, folder / "data" / "train")
    tested = write([*product(*unseen), *([path] for paths in unseen for path in paths)], folder / "data" / "test")
    result = train(folder / "data", TrainOptions(model_dir=folder / "model", report=False))
    judged = list(zip(Classifier.load(folder / "model").guess_files(tested), tested.values(), strict=True))
    return result, *([row for row in judged if len(row[1]) == count] for count in (2, 1))


def write(groups, folder):
    """Write the photos of each group side by side, and labels.csv.  Returns {path: labels}."""
    folder.mkdir(parents=True)
    labels = {}
    for number, paths in enumerate(groups):
        path = folder / f"{number:03d}.jpg"
        beside(paths).save(path, quality=90)
        labels[path] = sorted(photo.parent.name for photo in paths)
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "labels"), *((path.name, ";".join(own)) for path, own in labels.items())])
    return labels


def beside(paths):
    """The middles of photos side by side in a square picture."""
    image, width = Image.new("RGB", (SIDE, SIDE)), SIDE // len(paths)
    for number, path in enumerate(paths):
        with Image.open(path) as photo:
            image.paste(ImageOps.fit(photo.convert("RGB"), (width, SIDE)), (width * number, 0))
    return image


def row_of(share, result, pairs, alone):
    lower = [min(guess.scores.values()) for guess, _ in pairs]
    low, high = result["mean_average_precision_interval"]
    return {
        "learned, of which show both %": round(100 * share),
        f"of {len(pairs)} new pairs told right %": _right(pairs),
        "lower of the two scores, median": round(float(np.median(lower)), 2),
        f"of {len(alone)} alone told right %": _right(alone),
        "mean average precision %": f"{100 * result['mean_average_precision']:.1f} ({100 * low:.1f}-{100 * high:.1f})",
    }


def _right(judged):
    right = sum(sorted(guess.labels) == own for guess, own in judged)
    low, high = wilson_interval(right, len(judged))
    return f"{100 * right / len(judged):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def _people(folder):
    return [sorted((folder / name).iterdir()) for name in PEOPLE]
