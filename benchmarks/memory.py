"""Peak memory and time of training as the data grow: on drawn pictures, and on a store full of made-up embeddings."""

import hashlib

import numpy as np

from benchmarks.common import RETRAIN, medians, run
from retrain import draw_sample
from retrain.backbones import load_backbone
from retrain.bottlenecks import Store
from retrain.options import QUALITIES, SampleOptions
from retrain.recipes.training import store_path

PICTURES = 3_670  # as many as flower_photos holds
STORED = (5_000, 50_000)
CLASSES = 5


def measure(bench):
    drawn = bench.folder / "drawn"
    draw_sample(drawn, SampleOptions(per_class=PICTURES // CLASSES))
    rows = [_row(f"{PICTURES} pictures, from nothing", drawn, bench.fresh() / "model")]
    for count in STORED:
        folder = bench.fresh()
        _fill(folder, count)
        rows.append(_row(f"{count} stored embeddings", folder / "data", folder / "model"))
    few, many = (row["seconds"] for row in rows[1:])
    return {"rows": rows, "ratios": {f"{STORED[1]} / {STORED[0]} embeddings, seconds": round(many / few, 2)}}


def _row(what, data, model_dir):
    return {"what": what, **medians([run(RETRAIN, "train", data, "--no-report", "--model-dir", model_dir)])}


def _fill(folder, count):
    """Files that are no pictures, whose embeddings are known all the same: only the store is looked at."""
    random = np.random.default_rng(0)
    backbone = load_backbone(QUALITIES["fast"])
    size = backbone.spec.embedding_size
    centres = random.random((CLASSES, size), np.float32)
    with Store(store_path(folder / "model")) as store:
        for number in range(count):
            path = folder / "data" / f"class{number % CLASSES}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(number))
            digest = hashlib.sha256(path.read_bytes()).digest()
            embedding = centres[number % CLASSES] + 3 * random.random(size, np.float32)
            store.put(digest, backbone.fingerprint, embedding)
            store.note(path, path.stat(), digest)
