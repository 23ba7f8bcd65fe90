"""Time and peak memory of training and cleaning as the pictures become more: linear in the one, flat in the other."""

import os

from benchmarks.common import RETRAIN, medians, run
from retrain import draw_sample
from retrain.options import SampleOptions

COUNTS = (5_000, 10_000, 20_000)  # pictures
CLASSES = 5
SIZE = 128  # px


def measure(bench):
    drawn = bench.folder / "drawn"
    draw_sample(drawn, SampleOptions(per_class=max(COUNTS) // CLASSES, size=SIZE))
    rows = [row for count in COUNTS for row in _measure(bench.fresh(), _first(drawn, bench.fresh(), count), count)]
    ratios = {}
    for what in ("train", "train again", "clean"):
        first, *_, last = (row for row in rows if row["what"].startswith(f"{what}, "))
        for column in ("seconds", "peak_mb"):
            ratios[f"{what}: {COUNTS[-1]} / {COUNTS[0]} pictures, {column}"] = round(last[column] / first[column], 2)
    return {"rows": rows, "ratios": ratios}


def _first(drawn, folder, count):
    """So many of the drawn pictures, as further names of the same files."""
    for label in drawn.iterdir():
        (folder / label.name).mkdir()
        for path in sorted(label.iterdir(), key=lambda path: int(path.stem.rpartition("-")[2]))[: count // CLASSES]:
            os.link(path, folder / label.name / path.name)
    return folder


def _measure(files, data, count):
    commands = {
        "train": ("train", data, "--no-report"),
        "train again": ("train", data, "--no-report"),
        "clean": ("clean", data),
    }
    for what, command in commands.items():
        done = run(RETRAIN, *command, TF_FILES=str(files))
        yield {
            "what": f"{what}, {count} pictures",
            **medians([done]),
            "ms a picture": round(1e3 * done.seconds / count, 2),
        }
