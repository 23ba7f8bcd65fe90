"""Wrong labels put in and found again: the curve of precision and recall, and the accuracy that cleaning regains."""

import time

import numpy as np

from retrain.backbones import load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.checks.wrong_label import predict, suspects
from retrain.dataset import find_dataset
from retrain.duplicates import find_pairs, group_by
from retrain.head import fit_head, make_folds, normalize, search_C
from retrain.options import QUALITIES

NOISE = 0.1  # of the labels
SEEDS = 5
DEPTHS = 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2  # of the curve: pictures looked at, worst first, by the number of wrong ones


def measure(bench):
    learned = learn(stored(bench.photos, bench.folder / "store.sqlite"))
    labels = learned[1]
    start = time.perf_counter()
    as_they_are = suspects(labels, predict(*learned)[1])
    seconds = time.perf_counter() - start
    found = [measure_seed(learned, seed) for seed in range(SEEDS)]
    clean = _accuracy(learned, labels, np.ones(len(labels), bool))
    rows = [{"what": f"seed {seed}"} | _row(row) for seed, row in enumerate(found)]
    mean = {key: np.mean([row[key] for row in found], axis=0) for key in found[0]}
    rows.append({"what": "mean"} | _row(mean))
    rows.append({"what": "labels as they are", "suspects": len(as_they_are)})
    rows += [
        {"what": f"the worst {round(depth * NOISE * len(labels))}", "precision %": _percent(p), "recall %": _percent(r)}
        for depth, p, r in zip(DEPTHS, mean["precisions"], mean["recalls"], strict=True)
    ]
    lost, regained = clean - mean["noisy"], mean["cleaned"] - mean["noisy"]
    ratios = {
        "accuracy % with clean labels": _percent(clean),
        "regained %, of what the noise took": _percent(regained / lost) if lost > 0 else None,
        "seconds to find them": round(seconds, 2),
    }
    return {"rows": rows, "ratios": ratios}


def stored(photos, store=None):
    """Data set and embeddings of a folder."""
    dataset = find_dataset(photos)
    with Store(store) as opened:
        return dataset, embed_files(dataset.paths, [load_backbone(QUALITIES["fast"])], opened)


def learn(stored):
    """Embeddings, labels, groups of copies, number of classes."""
    dataset, embedded = stored
    embeddings, labels = normalize(embedded.embeddings), np.array(dataset.labels)[embedded.kept]
    groups = group_by(embedded.digests, find_pairs(embeddings, embedded.thumbnails)[:2])
    return embeddings, labels, groups, len(dataset.classes)


def measure_seed(learned, seed):
    """What is found of labels made wrong by chance, and how a head does that learns from all or from the others."""
    embeddings, labels, groups, classes = learned
    generator, number = np.random.default_rng(seed), round(NOISE * len(labels))
    chosen, noisy = generator.choice(len(labels), number, replace=False), labels.copy()
    noisy[chosen] = (labels[chosen] + generator.integers(1, classes, number)) % classes
    wrong = noisy != labels
    rows, probabilities = predict(embeddings, noisy, groups, classes)
    found = np.zeros(len(labels), bool)
    found[rows[suspects(noisy[rows], probabilities)]] = True
    worst_first = rows[np.argsort(probabilities[np.arange(len(rows)), noisy[rows]], kind="stable")]
    hits = [(wrong[worst_first[: round(depth * number)]].sum(), round(depth * number)) for depth in DEPTHS]
    return {
        "suspects": found.sum(),
        "precision": (found & wrong).sum() / max(found.sum(), 1),
        "recall": (found & wrong).sum() / number,
        "noisy": _accuracy(learned, noisy, np.ones(len(labels), bool)),
        "cleaned": _accuracy(learned, noisy, ~found),
        "precisions": np.array([count / looked_at for count, looked_at in hits]),
        "recalls": np.array([count / number for count, _ in hits]),
    }


def _accuracy(learned, given, kept):
    """Share of true labels guessed in five folds, by heads that learn the labels given of the pictures kept."""
    embeddings, labels, groups, classes = learned
    folds, right = make_folds(labels, groups), 0
    strength = search_C(embeddings[kept], given[kept], [groups[row] for row in np.flatnonzero(kept)], classes).C
    for fold in range(folds.max() + 1):
        training, held_out = kept & (folds != fold), folds == fold
        head = fit_head(embeddings[training], given[training], classes, strength)
        right += np.sum(head.logits(embeddings[held_out]).argmax(axis=1) == labels[held_out])
    return right / np.sum(folds >= 0)


def _row(values):
    shares = {f"{key} %": _percent(values[key]) for key in ("precision", "recall", "noisy", "cleaned")}
    return {"suspects": round(float(values["suspects"]), 1)} | shares


def _percent(share):
    return round(100 * float(share), 1)
