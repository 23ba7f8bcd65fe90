"""Make confidences mean what they say."""

import numpy as np

from retrain.metrics import log_loss

TEMPERATURES = (0.05, 20.0)  # searched within


def fit_temperature(logits, labels):
    """Temperature that makes confidences match accuracy on held-out data.

    logits: float32 (n, classes), before softmax.  labels: int (n,).
    Returns T > 0; divide logits by it.  Raises ValueError on no rows.  Guo et al. 2017, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        raise ValueError("no rows to fit a temperature on")
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda log_t: log_loss(logits / np.exp(log_t), labels), bounds=(low, high), method="bounded"
    )
    return float(np.exp(found.x))
