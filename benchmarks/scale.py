"""Time and peak memory of training, sorting and embedding as the pictures become ten times as many."""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from random import Random

from benchmarks.common import RETRAIN, medians, run
from retrain.parallel import cores
from retrain.recipes.sampling import SUBJECTS, draw

SIZE = 80  # px
AT_ONCE = 500  # pictures drawn by a process at a time


def measure(bench):
    drawn = draw_many(bench.folder / "drawn", max(bench.counts) // len(SUBJECTS))
    rows = []
    for count in sorted(bench.counts):
        data, out = _first(drawn, bench.fresh(), count // len(SUBJECTS)), bench.fresh()
        for what, *command in _commands(data, out):
            done = run(RETRAIN, *command, TF_FILES=str(out))
            speed = {"images/s": round(count / done.seconds)}
            rows.append({"what": f"{what}, {count} pictures", **medians([done]), **speed})
        shutil.rmtree(out)
    return {"rows": rows, "ratios": _ratios(rows, min(bench.counts), max(bench.counts))}


def _commands(data, out):
    """What, and its words."""
    yield "train", "train", data
    yield "sort", "sort", data, out / "sorted"
    yield "embed", "embed", data, "--out", out / "embeddings.parquet"


def _ratios(rows, few, many):
    found = {row["what"]: row for row in rows}
    names = dict.fromkeys(row["what"].partition(",")[0] for row in rows)
    return {
        f"{name}: {many} / {few} pictures, {column}": round(
            found[f"{name}, {many} pictures"][column] / found[f"{name}, {few} pictures"][column], 2
        )
        for name, column in product(names, ("seconds", "peak_mb"))
    }


def draw_many(folder, per_class):
    """Make a folder with a folder a class of so many small pictures each, no two of the same bytes."""
    for label in SUBJECTS:
        (folder / label).mkdir(parents=True)
    starts = range(0, per_class, AT_ONCE)
    parts = [(folder, label, range(start, min(start + AT_ONCE, per_class))) for label in SUBJECTS for start in starts]
    with ProcessPoolExecutor(cores()) as pool:
        for _ in pool.map(_draw_part, *zip(*parts, strict=True)):
            pass
    return folder


def _draw_part(folder, label, numbers):
    for number in numbers:
        draw(label, Random(f"{label}/{number}"), SIZE).save(folder / label / f"{number:06d}.jpg", quality=85)


def _first(drawn, folder, per_class):
    """So many of the drawn pictures of each class, as further names of the same files."""
    for label in drawn.iterdir():
        (folder / label.name).mkdir()
        for number in range(per_class):
            name = Path(label.name, f"{number:06d}.jpg")
            os.link(drawn / name, folder / name)
    return folder
