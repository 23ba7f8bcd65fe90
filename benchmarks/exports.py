"""How far is each export from `retrain guess`, and how fast?  On photos that the model has not learned."""

import time
from importlib.util import find_spec

import numpy as np

from retrain import ExportOptions, TrainOptions, draw_sample, export, train
from retrain.dataset import find_parts, walk
from retrain.exports import FORMATS, checking, load_format
from retrain.exports.describing import describe
from retrain.exports.refitting import find_pictures, in_float
from retrain.images import read
from retrain.model import load_model
from retrain.options import SampleOptions

PHOTOS = 200
DRAWN = SampleOptions(per_class=40, size=256, seed=9)
NAMES = [name for name, kind in FORMATS.items() if kind.is_run and (name != "onnx" or find_spec("tf2onnx"))]


def measure(bench):
    whole = bench.photos.parent if find_parts(bench.photos.parent) else bench.photos
    if whole == bench.photos:
        draw_sample(bench.folder / "test", DRAWN)
    paths = list(walk(bench.folder / "test" if whole == bench.photos else whole / "test"))
    files = [read(path) for path in paths[:: max(1, len(paths) // PHOTOS)][:PHOTOS]]
    rows = [row for quality in ("fast", "good") for row in _rows(quality, whole, bench.folder / quality, files)]
    return {"rows": rows, "ratios": {"photos": len(files)}}


def _rows(quality, data, folder, files):
    train(data, TrainOptions(model_dir=folder / "model", quality=quality, report=False))
    export(NAMES, ExportOptions(folder / "model", folder / "out"))
    model = load_model(folder / "model")
    floated, _ = in_float(model, folder / "model", find_pictures(model, folder / "model"))
    pixels, guessed = checking.squares(files, describe(model)), checking.guessed(model, files)
    ours = {True: checking.expected(floated, pixels), False: checking.expected(model, pixels)}
    for name in NAMES:
        module, place = load_format(name), folder / "out" / name
        yield {"what": f"{quality}: {name}", "MB": _size(place)} | _row(
            module.run(place), pixels, guessed, ours[FORMATS[name].in_float]
        )
        if hasattr(module, "run_bytes"):
            yield {"what": f"{quality}: {name}, fed bytes"} | _row(module.run_bytes(place), files, guessed)


def _row(run, entries, guessed, ours=None):
    run(entries[:1])
    start = time.perf_counter()
    found = np.concatenate([run(entries[number : number + 1]) for number in range(len(entries))])
    seconds = time.perf_counter() - start
    each = np.abs(found - guessed).max(axis=1)
    row = {} if ours is None else {"max, same pixels": f"{np.abs(found - ours).max():.1e}"}
    return row | {
        "labels as guess %": round(100 * float((found.argmax(axis=1) == guessed.argmax(axis=1)).mean()), 1),
        "median": f"{np.median(each):.1e}", "95 %": f"{np.quantile(each, 0.95):.1e}", "max": f"{each.max():.1e}",
        "ms": round(1000 * seconds / len(entries), 1),
    }  # fmt: skip


def _size(folder):
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.suffix != ".md") / 1e6, 1)
