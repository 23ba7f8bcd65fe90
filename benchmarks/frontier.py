"""Accuracy against seconds for each backbone and for two side by side: what `--quality` chooses from."""

import sys
import time
from itertools import combinations
from statistics import median

import numpy as np
import sklearn.linear_model  # noqa: F401 - before the clock starts

from benchmarks.common import HAS_TENSORFLOW, paired_ratio, run
from retrain.backbones import BACKBONES, load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import find_dataset, find_parts
from retrain.head import fit_head, make_folds, normalize, search_C
from retrain.metrics import log_loss, wilson_interval
from retrain.options import QUALITIES

LOAD = "import sys; from retrain.backbones import load_backbone; list(map(load_backbone, sys.argv[1:]))"


def measure(bench):
    whole = bench.photos.parent if find_parts(bench.photos.parent) else bench.photos
    dataset = find_dataset(whole)
    names = [name for name, spec in BACKBONES.items() if spec.shipped_sha256 or HAS_TENSORFLOW]
    names += ["+".join(pair) for pair in combinations([n for n in names if BACKBONES[n].precision == "int8"], 2)]
    if HAS_TENSORFLOW:
        names += ["+".join(f"{part}-float32" for part in QUALITIES["good"].split("+"))]
        for name in names:
            # Elsewhere, because building leaves TensorFlow in memory and its messages on the terminal.
            run(sys.executable, "-c", LOAD, *name.split("+"))
    runs = bench.alternate({name: lambda name=name: _learn(name, dataset) for name in names})
    fast = [seconds for seconds, _ in runs[QUALITIES["fast"]]]
    rows = [_row(name, of_side, fast) for name, of_side in runs.items()]
    return {"rows": rows, "ratios": {f"{row['what']} / fast": row["times fast"] for row in rows}}


def _learn(name, dataset):
    """Embed all, search and fit on all.  Returns the seconds and what came of it."""
    backbones = [load_backbone(part) for part in name.split("+")]
    start = time.perf_counter()
    with Store(None) as store:
        embedded = embed_files(dataset.paths, backbones, store)
    learned = (
        normalize(embedded.embeddings),
        np.array(dataset.labels)[embedded.kept],
        embedded.digests,
        len(dataset.classes),
    )
    _fit(*learned)
    return time.perf_counter() - start, learned


def _row(name, runs, fast):
    seconds, learned = [seconds for seconds, _ in runs], runs[0][1]
    logits, labels = _held_out(*learned), learned[1]
    correct = int(np.sum(logits.argmax(axis=1) == labels))
    low, high = wilson_interval(correct, len(labels))
    return {
        "what": name,
        "images": len(labels),
        "seconds": round(median(seconds), 2),
        "times fast": paired_ratio(seconds, fast),
        "log-loss": round(log_loss(logits, labels), 3),
        "accuracy %": round(100 * correct / len(labels), 1),
        "95 % interval": f"{100 * low:.1f}-{100 * high:.1f}",
    }


def _fit(embeddings, labels, digests, classes):
    return fit_head(embeddings, labels, classes, search_C(embeddings, labels, digests, classes).C)


def _held_out(embeddings, labels, digests, classes):
    """Logits of each row by a head that knew nothing of its fold, not even for the choice of C."""
    folds, logits = make_folds(labels, digests), np.zeros((len(labels), classes), np.float32)
    for fold in range(folds.max() + 1):
        learned, held_out = np.flatnonzero(folds != fold), folds == fold
        head = _fit(embeddings[learned], labels[learned], [digests[row] for row in learned], classes)
        logits[held_out] = head.logits(embeddings[held_out])
    return logits
