"""How good the guesses are.  Arrays in, numbers out."""

import numpy as np


def wilson_interval(successes, total, z=1.96):
    """95 % interval of a proportion.  Returns (low, high).  Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    if total == 0:
        return 0.0, 1.0
    share, weight = successes / total, z * z / total
    middle = share + weight / 2
    spread = z * np.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, float((middle - spread) / (1 + weight))), min(1.0, float((middle + spread) / (1 + weight)))


def confusion_matrix(labels, guesses, classes):
    """Counts int (classes, classes): rows the truth, columns the guess."""
    return np.bincount(labels * classes + guesses, minlength=classes * classes).reshape(classes, classes)


def expected_calibration_error(probabilities, labels, bins=15):
    """Mean gap between confidence and accuracy over bins of equal mass.  Naeini et al. 2015; Nguyen & O'Connor 2015."""
    confidences = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(confidences, kind="stable"), min(bins, len(labels)))
    gaps = [len(part) * abs(confidences[part].mean() - correct[part].mean()) for part in parts]
    return float(sum(gaps) / len(labels))


def per_class_scores(matrix, names):
    """{name: {precision, recall, f1, support}} of a confusion matrix; a score that is undefined is 0."""
    hits, truth, guessed = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    precision, recall = hits / np.maximum(guessed, 1), hits / np.maximum(truth, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        name: {
            "precision": float(precision[row]),
            "recall": float(recall[row]),
            "f1": float(f1[row]),
            "support": int(truth[row]),
        }
        for row, name in enumerate(names)
    }


def log_loss(logits, labels):
    """Mean negative log-likelihood, in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - picked))


def softmax(logits):
    """Probabilities float32 (n, C)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
