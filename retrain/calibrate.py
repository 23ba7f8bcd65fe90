"""Make confidences mean what they say, and limits keep what they promise."""

import math
from dataclasses import dataclass, field

import numpy as np

from retrain.errors import RetrainError

ROUNDING = 1e-9  # 1 - 0.9 is not quite 0.1
SMALLEST = 1e-6  # share that a limit can be asked for
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


def _none():
    return np.empty(0, np.float32)


@dataclass(frozen=True)
class Limits:
    """Limits with a promise, from pictures that the judging model had not learned.

    A limit that keeps a share of n such pictures keeps that share of future ones in the mean, if these are alike
    (split conformal prediction; Vovk et al. 2005, Lei et al. 2018, arXiv:1604.04173).  Each method raises RetrainError
    where the pictures are too few for the share asked.
    """

    confidences: np.ndarray = field(default_factory=_none)  # float32 (n,), sorted: of the true class
    scores: np.ndarray = field(default_factory=_none)  # float32 (m,), sorted: how known each picture guessed right is

    def confidence(self, coverage):
        """The labels of at least this confidence hold the true one in that share of pictures (LAC sets)."""
        return _lower_limit(self.confidences, 1 - coverage, f"a coverage of {coverage:g}", "Ask for less")

    def score(self, reject_rate):
        """About that share of pictures guessed right has a score below this one."""
        return _lower_limit(self.scores, reject_rate, f"a reject rate of {reject_rate:g}", "Ask for more")


def pictures_needed(share):
    """So many pictures are needed for a limit that at most this share of them falls short of; 0 for a share of 0."""
    return math.ceil(1 / share - ROUNDING) - 1 if share else 0


def _lower_limit(values, share, what, advice):
    if not SMALLEST <= share <= 1 - SMALLEST:
        raise RetrainError(f"{what} is out of range.", f"Ask for a share between {SMALLEST:g} and {1 - SMALLEST:g}.")
    needed = pictures_needed(share)
    if len(values) < needed:
        raise RetrainError(
            f"{what} cannot be promised: the model was calibrated on {len(values)} pictures, {needed} are needed.",
            f"{advice}, or train on more pictures." if len(values) else "Train again, on more pictures.",
        )
    return float(values[min(math.floor(share * (len(values) + 1) + ROUNDING), len(values)) - 1])
