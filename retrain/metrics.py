"""How good the guesses are.  Arrays in, numbers out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

BINS = 15  # of equal mass, for calibration
TOP_K = (2, 3, 5)
CONFUSED = 5  # pairs of classes named
CURVE_POINTS = 100
DRAWS = 1_000  # of the simulations behind an interval
INTERVALS = (
    "95 % intervals: Wilson's for shares and F1, Price and Bonett's for balanced accuracy, Newcombe's for AUROC, "
    "simulated ones for ECE and FPR95"
)


@dataclass(frozen=True)
class Judged:
    """Pictures judged by a model that has not learned them."""

    paths: list[Path]
    truth: np.ndarray  # int (n,)
    probabilities: np.ndarray  # float32 (n, C), calibrated
    tested: np.ndarray  # bool (n,): kept back from training, else judged out of fold by cross-validation


def summarize(probabilities, truth, classes, threshold=0.0):
    """All that is to be said of guesses whose truth is known, for JSON.

    probabilities: float32 (n, C), calibrated.  truth: int (n,).  classes: C names.  threshold: confidence from which
    a guess counts as covered.  Each score has its 95 % interval beside it; one that is undefined is None.
    """
    confidences = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    covered = confidences >= threshold
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), len(classes))
    return {
        **proportion("accuracy", correct),
        **balanced_accuracy(matrix),
        "top_k": _top_k(probabilities, truth),
        **_calibration(probabilities, truth),
        "per_class": per_class_scores(matrix, classes),
        "confusion": matrix.tolist(),
        "most_confused": most_confused(matrix, classes),
        **proportion("coverage", covered),
        **proportion("accuracy_on_covered", correct[covered]),
        "at_threshold": at_threshold(correct, covered, threshold),
        "reliability": reliability(probabilities, truth),
        "risk_coverage": risk_coverage(confidences, correct),
        "intervals": INTERVALS,
    }


def wilson_interval(successes, total, z=1.96):
    """95 % interval of a proportion.  Returns (low, high).  Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    if total == 0:
        return 0.0, 1.0
    share, weight = successes / total, z * z / total
    middle = share + weight / 2
    spread = z * np.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, float((middle - spread) / (1 + weight))), min(1.0, float((middle + spread) / (1 + weight)))


def proportion(name, chosen):
    """{name: the share that is chosen, None of nothing, name_interval: [low, high]}.  chosen: bool (n,)."""
    return _proportion(name, np.sum(chosen), len(chosen))


def _proportion(name, successes, total):
    value = float(successes / total) if total else None
    return {name: value, f"{name}_interval": list(wilson_interval(int(successes), int(total)))}


def confusion_matrix(labels, guesses, classes):
    """Counts int (classes, classes): rows the truth, columns the guess."""
    return np.bincount(labels * classes + guesses, minlength=classes * classes).reshape(classes, classes)


def balanced_accuracy(matrix):
    """Mean recall of the classes that occur, with its interval, which has a width even where all guesses are right.

    That is Wald's after two right and two wrong guesses more, dealt out evenly to the classes.  Price & Bonett 2004,
    doi:10.1016/S0167-9473(03)00007-0.
    """
    truth = matrix.sum(axis=1)
    hits, truth = np.diag(matrix)[truth > 0], truth[truth > 0]
    if not len(truth):
        return {"balanced_accuracy": None, "balanced_accuracy_interval": [0.0, 1.0]}
    mean, more = float(np.mean(hits / truth)), 2 / len(truth)
    recalls = (hits + more) / (truth + 2 * more)
    spread = 1.96 * np.sqrt(np.sum(recalls * (1 - recalls) / (truth + 2 * more))) / len(truth)
    low, high = max(0.0, float(recalls.mean() - spread)), min(1.0, float(recalls.mean() + spread))
    return {"balanced_accuracy": mean, "balanced_accuracy_interval": [min(mean, low), max(mean, high)]}


def per_class_scores(matrix, names):
    """{name: precision, recall and F1, each with its interval, and support} of a confusion matrix."""
    return {
        name: class_scores(int(matrix[row, row]), int(matrix[:, row].sum()), int(matrix[row].sum()))
        for row, name in enumerate(names)
    }


def class_scores(hits, guessed, truth):
    # hits / either is a proportion, and F1 grows with it: so does the interval.  Lam et al. 2023, arXiv:2309.14621.
    either = guessed + truth - hits
    return {
        **_proportion("precision", hits, guessed),
        **_proportion("recall", hits, truth),
        "f1": 2 * hits / (guessed + truth) if either else None,
        "f1_interval": [2 * limit / (1 + limit) for limit in wilson_interval(hits, either)],
        "support": truth,
    }


def most_confused(matrix, names, most=CONFUSED):
    """The mistakes made most often: [{truth, guess, count, support, share, share_interval}].

    support: pictures of the true class, of which share were taken for the other.
    """
    mistakes = matrix - np.diag(np.diag(matrix))
    pairs = [divmod(int(cell), len(names)) for cell in np.argsort(-mistakes, axis=None, kind="stable")[:most]]
    return [
        {
            "truth": names[truth],
            "guess": names[guess],
            "count": int(mistakes[truth, guess]),
            "support": int(matrix[truth].sum()),
            **_proportion("share", mistakes[truth, guess], matrix[truth].sum()),
        }
        for truth, guess in pairs
        if mistakes[truth, guess]
    ]


def _top_k(probabilities, truth):
    """{k: {accuracy, interval}}: how often the truth is among the k most probable classes."""
    own, earlier = (
        probabilities[np.arange(len(truth)), truth][:, None],
        np.arange(probabilities.shape[1]) < truth[:, None],
    )
    ranks = np.sum((probabilities > own) | ((probabilities == own) & earlier), axis=1)
    found = {str(k): proportion("accuracy", ranks < k) for k in TOP_K if k < probabilities.shape[1]}
    return {k: {"accuracy": row["accuracy"], "interval": row["accuracy_interval"]} for k, row in found.items()}


def at_threshold(correct, covered, threshold):
    """What is right where guesses below a threshold are withheld; in the total accuracy they count as wrong.

    correct, covered: bool (n,).
    """
    total, taken, right = len(correct), int(covered.sum()), int(correct[covered].sum())
    return {
        "threshold": threshold,
        "total_images": total,
        "threshold_images": taken,
        "missed": total - taken,
        "correct": right,
        "misclassified": taken - right,
        **proportion("total_accuracy", correct & covered),
        **proportion("threshold_accuracy", correct[covered]),
    }


def risk_coverage(confidences, correct):
    """Accuracy of the most confident share, over the share: [{coverage, accuracy, threshold}], at most 100 points.

    Guesses of one confidence come in together: no threshold tells them apart.  Geifman & El-Yaniv 2017,
    arXiv:1705.08500.
    """
    order = np.argsort(-confidences, kind="stable")
    ordered, hits = confidences[order], np.cumsum(correct[order])
    ends = np.flatnonzero(np.diff(ordered, append=-np.inf))
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(CURVE_POINTS, len(ends))).astype(int))
    return [
        {
            "coverage": float((last + 1) / len(order)),
            "accuracy": float(hits[last] / (last + 1)),
            "threshold": float(ordered[last]),
        }
        for last in ends[chosen]
    ]


def reliability(probabilities, labels, bins=BINS):
    """Confidence beside accuracy in bins of equal mass: [{confidence, accuracy, interval, count}], doubtful first."""
    counts, hits, confidences = _bins(probabilities, labels, bins)
    return [
        {
            "confidence": float(confidence),
            "accuracy": float(right / count),
            "interval": list(wilson_interval(int(right), int(count))),
            "count": int(count),
        }
        for count, right, confidence in zip(counts, hits, confidences, strict=True)
    ]


def expected_calibration_error(probabilities, labels, bins=BINS):
    """Mean gap between confidence and accuracy over bins of equal mass.  Naeini et al. 2015; Nguyen & O'Connor 2015."""
    counts, hits, confidences = _bins(probabilities, labels, bins)
    return float(counts @ np.abs(hits / counts - confidences) / counts.sum())


def _bins(probabilities, labels, bins=BINS):
    """Pictures, right guesses and mean confidence of each bin."""
    confidences = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(confidences, kind="stable"), max(1, min(bins, len(labels))))
    sums = [(len(part), correct[part].sum(), confidences[part].mean()) for part in parts if len(part)]
    return np.array(sums, float).reshape(-1, 3).T


def _calibration(probabilities, labels):
    """ECE, its interval, and the ECE that chance alone brings to a perfectly calibrated model.

    Noise makes an ECE larger, and resampling adds noise, so that a bootstrap's interval misses the truth.  Instead the
    gaps of the bins are shrunk, stretched and turned around: the interval holds the errors under which the measured
    one is among the middle 95 % of simulated ones.
    """
    if not len(labels):
        return {"ece": None, "ece_interval": [0.0, 1.0], "ece_if_calibrated": None}
    counts, hits, confidences = _bins(probabilities, labels)
    weights, gaps = counts / counts.sum(), hits / counts - confidences
    measured = float(weights @ np.abs(gaps))
    smoothed = (hits + 0.5) / (counts + 1)  # all right of few proves no certainty
    error = np.sqrt(weights**2 @ (smoothed * (1 - smoothed) / counts))
    steps = np.linspace(-4, 4, 33) * error / max(measured, 1e-9)
    stretches = np.concatenate([[0], 1 + steps, steps - 1])[:, None]
    accuracies = np.clip(confidences + stretches * gaps, 0, 1)
    errors = np.abs(accuracies - confidences) @ weights
    noise = np.random.default_rng(0).normal(size=(DRAWS, 1, len(counts)))
    simulated = np.abs(accuracies - confidences + np.sqrt(accuracies * (1 - accuracies) / counts) * noise) @ weights
    low, high = np.quantile(simulated, [0.025, 0.975], axis=0)
    return {
        "ece": measured,
        "ece_interval": [
            float(np.min(errors[high >= measured], initial=measured)),
            float(np.max(errors[low <= measured], initial=measured)),
        ],
        "ece_if_calibrated": float(simulated[:, 0].mean()),
    }


def summarize_unknown(known, unknown):
    """How well scores tell the unknown, with 95 % intervals.  Both: float (n,), n > 0; higher is more known."""
    return {
        "auroc": auroc(known, unknown),
        "auroc_interval": _auroc_interval(auroc(known, unknown), len(known), len(unknown)),
        "fpr95": false_positive_rate_at(known, unknown),
        "fpr95_interval": _false_positive_rate_interval(known, unknown),
    }


def auroc(known, unknown):
    """Probability that a known picture scores higher than an unknown one; ties count half.  Both: float (n,), n > 0."""
    below, up_to = (np.searchsorted(np.sort(unknown), known, side=side) for side in ("left", "right"))
    return float(np.mean(below + up_to) / 2 / len(unknown))


def _auroc_interval(measured, known, unknown):
    """All areas from which the measured one is at most 1.96 standard errors away, these being those of Hanley & McNeil.

    So it has a width even where all are told apart.  Newcombe 2006, method 5, doi:10.1002/sim.2324.
    """
    area, size = np.linspace(0, 1, 10_001), (known + unknown) / 2 - 1
    doubled = area / (2 - area) + 2 * area**2 / (1 + area) - 2 * area**2
    errors = np.sqrt((area * (1 - area) + size * doubled) / (known * unknown))
    near = area[np.abs(area - measured) <= 1.96 * errors]
    return [float(np.min(near, initial=measured)), float(np.max(near, initial=measured))]


def false_positive_rate_at(known, unknown, recall=0.95):
    """Share of the unknown taken for known at the threshold that keeps this share of the known (FPR95).

    Higher scores are more known.  Both: float (n,), n > 0.  Hendrycks & Gimpel 2017, arXiv:1610.02136.
    """
    return float(np.mean(unknown >= np.sort(known)[-_kept(recall, len(known))]))


def _kept(recall, known):
    return max(1, int(np.ceil(recall * known - 1e-9)))


def _false_positive_rate_interval(known, unknown, recall=0.95):
    """The middle 95 % of what would come of other known pictures, which set the threshold, and other unknown ones."""
    random, kept = np.random.default_rng(0), _kept(recall, len(known))
    ranks = (random.beta(kept, len(known) + 1 - kept, DRAWS) * len(known)).astype(int)
    taken = len(unknown) - np.searchsorted(np.sort(unknown), np.sort(known)[::-1][ranks])
    rates = random.beta(taken + 0.5, len(unknown) - taken + 0.5)
    low, high = np.quantile(rates, [0.025, 0.975])
    measured = false_positive_rate_at(known, unknown, recall)
    return [min(measured, float(low)), max(measured, float(high))]


def log_loss(logits, labels):
    """Mean negative log-likelihood, in nats."""
    return float(np.mean(log_losses(logits, labels)))


def log_losses(logits, labels):
    """Negative log-likelihood of each row, in nats: float (n,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels]
    return np.log(np.exp(shifted).sum(axis=1)) - picked


def sigmoid(logits):
    """Probabilities (n, C), each for itself."""
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))


def softmax(logits):
    """Probabilities float32 (n, C)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
