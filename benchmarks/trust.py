"""Do confidences, limits and the sense of the unknown hold?  On pictures left out, over many ways to leave some out."""

import os
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.labels import learn, stored
from retrain.backbones import load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.classifier import Classifier
from retrain.dataset import find_parts, walk
from retrain.head import make_folds, normalize
from retrain.metrics import auroc, expected_calibration_error, false_positive_rate_at, softmax
from retrain.options import QUALITIES, TrainOptions, TrustOptions
from retrain.recipes.training import fit
from retrain.unknown import features

SEEDS = 4  # each deals five folds: 20 ways to leave a fifth out
DRAWS = 500
FOLDS = 3  # left out in turn, to compare scores of the unknown
COVERAGES, REJECT_RATES = (0.8, 0.9, 0.95), (0.01, 0.05, 0.1)
MEMBERS = ["nearest neighbour", "relative Mahalanobis", "local outlier factor"]  # as Detector.measures has them


def measure(bench):
    whole = bench.photos.parent if find_parts(bench.photos.parent) else bench.photos
    pictures, store = stored(whole, bench.folder / "store.sqlite"), bench.folder / "store.sqlite"
    embeddings, labels, groups, _ = learn(pictures)
    names = pictures[0].classes
    trials = [_trial(embeddings, labels, groups, names, seed, fold) for seed, fold in product(range(SEEDS), range(5))]
    rows = _calibration_rows([trial for trial in trials if trial["seed"] == 0]) + _limit_rows(trials)
    scores = _near(embeddings, labels, groups, names)
    imagenet = Path(os.environ.get("RETRAIN_TEST_DATA", "")) / "imagenet"
    if imagenet.is_dir():
        scores["far"] = _compare(embeddings, labels, groups, _embed(imagenet, store), names)
    rows += _unknown_rows(scores)
    ratios = {f"{row['what']}: {key}": row[key] for row in rows for key in ("mean", "near", "far") if key in row}
    return {"rows": rows, "ratios": ratios}


def _trial(embeddings, labels, groups, names, seed, fold):
    """What a model learned without one fold says of it."""
    folds = make_folds(labels, groups, seed)
    learned, held_out = folds != fold, folds == fold
    model, *_ = fit(names, [], embeddings[learned], labels[learned], _of(groups, learned), TrainOptions())
    truth, unseen = labels[held_out], embeddings[held_out]
    logits = model.head.logits(unseen)
    probabilities = Classifier(model).probabilities_of(unseen)
    sets = [Classifier(model, TrustOptions(coverage=share)).candidates_of(probabilities) for share in COVERAGES]
    strict = [Classifier(model, TrustOptions(reject_rate=share)) for share in REJECT_RATES]
    rejected = [classifier.unknown(unseen, probabilities) for classifier in strict]
    right = probabilities.argmax(axis=1) == truth
    return {
        "seed": seed,
        "truth": truth,
        "before": softmax(logits),
        "after": probabilities,
        "covered": [candidates[np.arange(len(truth)), truth].mean() for candidates in sets],
        "sizes": [candidates.sum(axis=1).mean() for candidates in sets],
        "rejected": [row.mean() for row in rejected],
        "lost": [row[right].mean() for row in rejected],
    }


def _calibration_rows(trials):
    """ECE over five folds that together hold every picture once, beside that of labels drawn from the confidences."""
    truth, before, after = (np.concatenate([trial[key] for trial in trials]) for key in ("truth", "before", "after"))
    generator = np.random.default_rng(0)
    steps = after.astype(float).cumsum(axis=1)
    draws = [(generator.random(len(steps))[:, None] * steps[:, -1:] > steps).sum(axis=1) for _ in range(DRAWS)]
    ideal = np.mean([expected_calibration_error(after, drawn) for drawn in draws])
    values = {
        "ECE before scaling": expected_calibration_error(before, truth),
        "ECE": expected_calibration_error(after, truth),
        f"ECE of {DRAWS} draws from the confidences": ideal,
    }
    return [{"what": what, "mean": round(float(value), 4)} for what, value in values.items()]


def _limit_rows(trials):
    """Shares reached beside those asked for, over all ways to leave a fifth out."""
    rows = []
    for key, what, shares in [
        ("covered", "coverage", COVERAGES),
        ("lost", "guessed right, yet called unknown", REJECT_RATES),
        ("rejected", "known, yet called unknown", REJECT_RATES),
    ]:
        for number, share in enumerate(shares):
            reached = [trial[key][number] for trial in trials]
            rows.append({"what": f"{what}, {share:g} asked", **_spread(reached)})
    sizes = [np.mean([trial["sizes"][number] for trial in trials]) for number in range(len(COVERAGES))]
    return rows + [
        {"what": f"labels named at {share:g}", "mean": round(float(size), 2)}
        for share, size in zip(COVERAGES, sizes, strict=True)
    ]


def _spread(values):
    shape = {"mean": np.mean(values), "sd": np.std(values), "min": np.min(values), "max": np.max(values)}
    return {key: round(float(value), 4) for key, value in shape.items()}


def _near(embeddings, labels, groups, names):
    """{class: what each method makes of it when it is the unknown one and the others are learned}."""
    scores = {}
    for number, name in enumerate(names if len(names) > 2 else []):
        known = labels != number
        others = [other for other in names if other != name]
        kept = np.searchsorted(np.flatnonzero(np.arange(len(names)) != number), labels[known])
        scores[name] = _compare(embeddings[known], kept, _of(groups, known), embeddings[~known], others)
    return scores


def _compare(embeddings, labels, groups, unknown, names):
    """{method: (AUROC, FPR95)}, known pictures of a fold left out against unknown ones; mean over some folds."""
    folds, found = make_folds(labels, groups), {}
    for fold in range(FOLDS):
        learned, held_out = folds != fold, folds == fold
        model, *_ = fit(names, [], embeddings[learned], labels[learned], _of(groups, learned), TrainOptions())
        score = _methods(model, embeddings[learned])
        known, strange = score(embeddings[held_out]), score(unknown)
        for name, values in (strange | _sums(strange, known)).items():
            of_known = (known | _sums(known, known))[name]
            found.setdefault(name, []).append((auroc(of_known, values), false_positive_rate_at(of_known, values)))
    return {name: tuple(np.mean(values, axis=0)) for name, values in found.items()}


def _methods(model, learned):
    """Function that scores pictures by every method, higher for the known."""
    from scipy.special import logsumexp

    detector = model.detector

    def score(embeddings):
        logits = model.head.logits(embeddings)
        found = {
            "chosen, of three": detector.scores(embeddings),
            "maximum softmax": (logits - logsumexp(logits, axis=1, keepdims=True)).max(axis=1),
            "maximum logit": logits.max(axis=1),
            "energy": logsumexp(logits, axis=1),
            "10 nearest neighbours": np.sort(embeddings @ learned.T, axis=1)[:, -10:].mean(axis=1),
            "Mahalanobis": -detector.within.squared_distances(features(embeddings), detector.means).min(axis=1),
        }
        return found | dict(zip(MEMBERS, detector.measures(embeddings).T, strict=True))

    return score


def _sums(scores, known):
    """Combinations of two or three, each standardised on known pictures."""
    chosen = [
        ("energy", "nearest neighbour"), ("energy", "Mahalanobis"), ("energy", "relative Mahalanobis"),
        ("energy", "nearest neighbour", "local outlier factor"), ("relative Mahalanobis", "local outlier factor"),
        ("nearest neighbour", "relative Mahalanobis"), tuple(MEMBERS),
    ]  # fmt: skip
    return {
        " + ".join(names): sum((scores[name] - known[name].mean()) / known[name].std() for name in names)
        for names in chosen
    }


def _unknown_rows(scores):
    """One row a method: AUROC for each unknown class and their mean, the same and FPR95 for strangers."""
    rows = []
    for method in next(iter(scores.values()), {}):
        row = {"what": method}
        near = {name: found[method][0] for name, found in scores.items() if name != "far"}
        row |= {name: round(value, 3) for name, value in near.items()}
        if near:
            row["near"] = round(float(np.mean(list(near.values()))), 3)
        if "far" in scores:
            row |= {key: round(value, 3) for key, value in zip(("far", "FPR95"), scores["far"][method], strict=True)}
        rows.append(row)
    return rows


def _embed(folder, store):
    with Store(store) as opened:
        embedded = embed_files(list(walk(folder)), [load_backbone(QUALITIES["fast"])], opened)
    return normalize(embedded.embeddings)


def _of(groups, chosen):
    return [groups[row] for row in np.flatnonzero(chosen)]
