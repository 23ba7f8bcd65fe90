"""Accuracy against seconds for many ways to embed a picture and several heads: what `--quality` is chosen from.

`python -m benchmarks.frontier FILE` makes docs/frontier.md and docs/frontier.svg of the JSON that the benchmark prints.
Embeddings and networks are kept in the user's cache, so that it can be interrupted and repeated.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.common import HAS_TENSORFLOW
from benchmarks.variants import is_shipped, kinds_of
from retrain import draw_sample
from retrain.backbones.files import cache_folder
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import find_dataset, find_parts
from retrain.duplicates import find_pairs, group_by
from retrain.head import few_threads, fit_head, make_folds, normalize, search_C
from retrain.metrics import wilson_interval
from retrain.options import QUALITIES, SampleOptions
from retrain.parallel import cores

GRID = [
    "lite0", "lite1", "lite2", "lite0-float32", "lite1-float32",
    "lite0-192", "lite0-256", "lite0-288", "lite0-320", "lite1-208", "lite1-272", "lite1-300", "lite2-224", "lite2-300",
    "lite0-flips", "lite1-flips", "lite0-layers", "lite1-layers",
    "lite0+lite1", "lite0+lite2", "lite1+lite2", "lite0+lite1-208", "lite0-192+lite1", "lite0+lite0-288",
    "lite0-layers+lite1-208", "lite0-layers+lite1-layers", "lite0+lite1+lite2",
]  # fmt: skip
PRESETS = {QUALITIES[quality].replace("efficientnet-", ""): quality for quality in ("fast", "good")}
FAST = next(iter(PRESETS))
FURTHER = ["superheroes"]  # sets of RETRAIN_TEST_DATA, beside the benchmarks' own
DRAWN = SampleOptions(per_class=60)
FEW = 10  # pictures of each class learned, the second time
DEALS = 2  # of the folds
TIMED = 100  # pictures


@dataclass(frozen=True)
class PictureSet:
    """embeddings: {part: float32 (n, D)}.  labels: int (n,).  groups: bytes of each row's group of copies."""

    embeddings: dict[str, np.ndarray]
    labels: np.ndarray
    groups: list[bytes]

    def side_by_side(self, variant):
        """Embeddings of a variant, normalized."""
        return normalize([self.embeddings[part] for part in variant.split("+")])


def measure(bench, grid=GRID):
    grid = [name for name in grid if HAS_TENSORFLOW or all(map(is_shipped, name.split("+")))]
    kinds = kinds_of(list(dict.fromkeys(part for name in grid for part in name.split("+"))))
    with Store(cache_folder().with_name("frontier") / "embeddings.sqlite") as store:
        sets = {name: _embed(folder, kinds, store) for name, folder in _folders(bench).items()}
    paths = find_dataset(bench.photos).paths
    paths = paths[:: max(1, len(paths) // TIMED)]
    times = bench.alternate({name: lambda name=name: _seconds(paths, name, kinds) for name in grid})
    right = _judge_all(grid, sets)
    rows = [_row(name, sets, right, times, len(paths)) for name in grid]
    mark_frontier(rows)
    rows += [_head_row(head, sets, right) for head in HEADS]
    return {"rows": rows, "ratios": {f"{row['what']} / fast": row["times fast"] for row in rows[: len(grid)]}}


def _folders(bench):
    """{name: folder} of the picture sets."""
    whole = bench.photos.parent if find_parts(bench.photos.parent) else bench.photos
    real = Path(os.environ.get("RETRAIN_TEST_DATA", "nowhere"))
    draw_sample(bench.folder / "drawn", DRAWN)
    return {
        whole.name: whole,
        **{name: real / name for name in FURTHER if (real / name).is_dir()},
        "drawn": bench.folder / "drawn",
    }


def _embed(folder, kinds, store):
    dataset = find_dataset(folder)
    embedded = embed_files(dataset.paths, [], store, kinds.values())
    embeddings, labels = dict(zip(kinds, embedded.others, strict=True)), np.array(dataset.labels)[embedded.kept]
    pairs = find_pairs(normalize([embeddings[part] for part in FAST.split("+")]), embedded.thumbnails)
    return PictureSet(embeddings, labels, group_by(embedded.digests, pairs[:2]))


def _seconds(paths, name, kinds):
    """Of processor time on all cores, in which other work on the machine does not show, decoding included."""
    start = time.process_time()
    with Store(None) as store:
        embed_files(paths, [], store, [kinds[part] for part in name.split("+")])
    return time.process_time() - start


def _judge_all(grid, sets):
    """{variant: what `_judge` says of it}"""
    jobs = [
        [(pictures.side_by_side(name), pictures.labels, pictures.groups) for pictures in sets.values()] for name in grid
    ]
    with ProcessPoolExecutor(cores(), get_context("spawn")) as pool:
        return dict(zip(grid, pool.map(_judge, jobs), strict=True))


def _shipped_head(embeddings, labels, groups):
    classes = labels.max() + 1
    head = fit_head(embeddings, labels, classes, search_C(embeddings, labels, groups, classes).C)
    return lambda rows: head.logits(rows).argmax(axis=1)


def _linear_svm(embeddings, labels, _):
    from sklearn.svm import LinearSVC

    return LinearSVC(class_weight="balanced").fit(embeddings, labels).predict


def _ridge(embeddings, labels, _):
    from sklearn.linear_model import RidgeClassifierCV

    return RidgeClassifierCV(alphas=(0.01, 0.1, 1, 10), class_weight="balanced").fit(embeddings, labels).predict


def _nearest_neighbours(embeddings, labels, _):
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(10, len(labels)), weights="distance").fit(embeddings, labels).predict


HEADS = {
    "logistic regression": _shipped_head,
    "linear SVM": _linear_svm,
    "ridge": _ridge,
    "10 nearest neighbours": _nearest_neighbours,
}
SHIPPED_HEAD = next(iter(HEADS))


def _judge(sets):
    """{head: for each set how often each picture was guessed right, (2, n), by heads that had not learned it}

    First by heads that learned all others, then by heads that learned FEW a class.
    """
    return {
        head: [np.stack([_right(*rows, fit, most) for most in (None, FEW)]) for rows in sets]
        for head, fit in HEADS.items()
    }


def _right(embeddings, labels, groups, fit, most):
    right = np.zeros(len(labels))
    for deal in range(DEALS):
        folds = make_folds(labels, groups, deal)
        for fold in range(folds.max() + 1):
            learned, held_out = _first(most, labels, np.flatnonzero(folds != fold), deal), folds == fold
            with few_threads(0):
                guess = fit(embeddings[learned], labels[learned], [groups[row] for row in learned])
            right[held_out] += guess(embeddings[held_out]) == labels[held_out]
    return right[folds >= 0] / DEALS


def _first(most, labels, rows, seed):
    """At most so many rows of each class, by chance."""
    mixed = np.random.default_rng(seed).permutation(rows)
    return np.sort(np.concatenate([mixed[labels[mixed] == label][:most] for label in np.unique(labels)]))


def _row(name, sets, right, times, pictures):
    return {
        "what": name,
        "preset": PRESETS.get(name, ""),
        "frontier": "",
        # The least of the runs: other work on the machine only adds.
        "ms a picture": round(1000 * min(times[name]) / pictures, 2),
        "times fast": round(min(times[name]) / min(times[FAST]), 2),
        **_scores(sets, [right[name][SHIPPED_HEAD]], [right[FAST][SHIPPED_HEAD]]),
    }


def _head_row(head, sets, right):
    """A head in the mean of all variants, beside the one shipped."""
    ours, theirs = ([found[name] for found in right.values()] for name in (head, SHIPPED_HEAD))
    return {"what": head, **_scores(sets, ours, theirs)}


def _scores(sets, ours, theirs):
    """The columns of accuracies, and of what ours gain over theirs: lists of what `_judge` says with one head."""
    mean = [np.mean(of_set, axis=0) for of_set in zip(*ours, strict=True)]
    gained = [here - np.mean(of_set, axis=0) for here, of_set in zip(mean, zip(*theirs, strict=True), strict=True)]
    return {
        "mean %": round(100 * float(np.mean([counted.mean() for counted in mean])), 1),
        "gain": interval_of_gain(gained),
        **{f"gain, {name}": interval_of_gain([rows]) for name, rows in zip(sets, gained, strict=True)},
        **{
            name + few: _accuracy(counted)
            for name, rows in zip(sets, mean, strict=True)
            for few, counted in zip(("", f", {FEW} a class"), rows, strict=True)
        },
    }


def _accuracy(counted):
    low, high = wilson_interval(counted.sum(), len(counted))
    return f"{100 * counted.mean():.1f} ({100 * low:.1f}-{100 * high:.1f})"


def interval_of_gain(sets):
    """Points won in the mean of some sets, and half of the 95 % interval: both sides guess the same pictures.

    sets: for each how much more often a picture was guessed right, (2, n).
    """
    rows = [of_set.mean(axis=0) for of_set in sets]
    error = np.sqrt(sum(row.var() / len(row) for row in rows)) / len(rows)
    return f"{100 * np.mean([row.mean() for row in rows]):+.1f} ± {196 * error:.1f}"


def mark_frontier(rows):
    """Marks each row beside which none is both as fast and as accurate."""
    best = -1.0
    for row in sorted(rows, key=lambda row: (row["times fast"], -row["mean %"])):
        if row["mean %"] > best:
            best, row["frontier"] = row["mean %"], "●"
