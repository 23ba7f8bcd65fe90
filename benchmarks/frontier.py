"""Accuracy against seconds for each backbone and for two side by side: what `--quality` chooses from."""

import time

import numpy as np

from benchmarks.common import HAS_TENSORFLOW
from retrain.backbones import BACKBONES, load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import find_dataset, find_parts
from retrain.head import fit_head, make_folds, normalize, search_C
from retrain.metrics import wilson_interval
from retrain.options import QUALITIES


def measure(bench):
    whole = bench.photos.parent if find_parts(bench.photos.parent) else bench.photos
    dataset = find_dataset(whole)
    names = [name for name, spec in BACKBONES.items() if spec.shipped_sha256 or HAS_TENSORFLOW]
    names += [QUALITIES["good"]]
    if HAS_TENSORFLOW:
        names += ["+".join(f"{part}-float32" for part in QUALITIES["good"].split("+"))]
    rows = [_row(name, dataset) for name in names]
    fast = rows[names.index(QUALITIES["fast"])]
    ratios = {
        f"{row['what']} / fast, seconds": round(row["seconds"] / fast["seconds"], 2) for row in rows if row is not fast
    }
    return {"rows": rows, "ratios": ratios}


def _row(name, dataset):
    """Embed all, search and fit on all, then score by folds whose held-out part chose nothing."""
    backbones = [load_backbone(part) for part in name.split("+")]
    start = time.perf_counter()
    with Store(None) as store:
        embedded = embed_files(dataset.paths, backbones, store)
    embedding = time.perf_counter() - start
    embeddings, labels = normalize(embedded.embeddings), np.array(dataset.labels)[embedded.kept]
    _fit(embeddings, labels, embedded.digests, len(dataset.classes))
    seconds = time.perf_counter() - start
    correct = _correct(embeddings, labels, embedded.digests, len(dataset.classes))
    low, high = wilson_interval(correct, len(labels))
    return {
        "what": name,
        "images": len(labels),
        "seconds": round(seconds, 2),
        "embedding": round(embedding, 2),
        "accuracy %": round(100 * correct / len(labels), 1),
        "95 % interval": f"{100 * low:.1f}-{100 * high:.1f}",
    }


def _fit(embeddings, labels, digests, classes):
    return fit_head(embeddings, labels, classes, search_C(embeddings, labels, digests, classes).C)


def _correct(embeddings, labels, digests, classes):
    folds, correct = make_folds(labels, digests), 0
    for fold in range(folds.max() + 1):
        learned, held_out = np.flatnonzero(folds != fold), folds == fold
        head = _fit(embeddings[learned], labels[learned], [digests[row] for row in learned], classes)
        correct += int(np.sum(head.logits(embeddings[held_out]).argmax(axis=1) == labels[held_out]))
    return correct
