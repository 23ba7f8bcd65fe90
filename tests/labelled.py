"""Pictures with several labels, drawn."""

import csv
from random import Random

from PIL import Image

from retrain.recipes.sampling import draw, draw_background

LABELS = ["fish", "house", "sun"]


def write_labels(folder, rows):
    """`labels.csv` of a folder.  rows: (path, its labels joined)."""
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "labels"), *rows])


def draw_labelled(folder, count, seed=0, side=64):
    """Draw pictures with none, one or two of LABELS on each, and their labels.csv.  Returns {path: labels}.

    A picture has four fields of side × side px, with a subject or with a background alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(count):
        random = Random(f"{seed}/{number}")
        labels = sorted(random.sample(LABELS, number % 3))
        fields = random.sample([*labels, *[None] * (4 - len(labels))], 4)
        image = Image.new("RGB", (2 * side, 2 * side))
        for place, label in enumerate(fields):
            field = draw(label, random, side) if label else draw_background(random, side)
            image.paste(field, (place % 2 * side, place // 2 * side))
        path = folder / f"{number:03d}.jpg"
        image.save(path, quality=90)
        truth[path] = labels
    write_labels(folder, [(path.name, ";".join(labels)) for path, labels in truth.items()])
    return truth
