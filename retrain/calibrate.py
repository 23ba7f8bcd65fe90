"""Make confidences mean what they say."""

import numpy as np

TEMPERATURES = (0.05, 20.0)  # searched within


def fit_temperature(logits, labels):
    """Temperature that makes confidences match accuracy on held-out data.

    logits: float32 (n, classes), before softmax.  labels: int (n,).
    Returns T > 0; divide logits by it.  Raises ValueError on no rows.  Guo et al. 2017, arXiv:1706.04599.
    n right of n prove no certainty: the targets are smoothed to (n + 1) / (n + 2), after Platt 1999.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    if not len(labels):
        raise ValueError("no rows to fit a temperature on")
    doubt = 1 / (len(labels) + 2)
    target = (1 - doubt) * logits[np.arange(len(labels)), labels] + doubt * logits.mean(axis=1)

    def loss(log_temperature):
        temperature = np.exp(log_temperature)
        return float(np.mean(logsumexp(logits / temperature, axis=1) - target / temperature))

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))
