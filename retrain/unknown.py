"""Is there anything known on a picture at all?  Arrays in, arrays out; nobody has to show what is unknown.

A picture is taken for unknown where it is unlike what was learned, by three measures that fail on different pictures
(`python -m benchmarks trust` compares them with others, alone and combined):

- its nearest neighbour among the learned pictures (Sun et al. 2022, arXiv:2204.06507);
- the Mahalanobis distance to the nearest class mean, relative to that from the mean of all classes (Ren et al. 2021,
  arXiv:2106.09022);
- how much sparser it is where the picture lies than where its neighbours lie, the local outlier factor (Breunig et al.
  2000, doi:10.1145/342009.335388).

Each enters by the logarithm of its logistic tail, as in Fisher's way to combine tests: what one finds normal cannot
outweigh what another finds strange.  Embeddings enter by their square roots, under which the few strong features count
less (Hellinger distance).
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

WEIGHTS = np.array([1, 1, 1.5], np.float32)  # of the measures, in the order above
AXES = 32  # principal ones, along which the outlier factor is taken
STRETCHED = 16  # principal axes, along which distance counts less; along all others it counts alike
FLOOR = 1 / 640  # of the whole variance, that every direction has; it may not depend on the number of pictures
NEIGHBOURS = 5, 8  # the outlier factor is the mean of those among so many
REFERENCES = 4_000  # learned pictures kept to look for neighbours among, at most
BLOCK = 1_000  # pictures scored at once
FLAT = 1e-9  # distances below this are none
UNSCALED = np.zeros(3, np.float32), np.ones(3, np.float32)


@dataclass(frozen=True)
class Gaussian:
    """Squared distances under a covariance that is kept along its STRETCHED strongest directions and shrunk."""

    directions: np.ndarray  # float32 (r, D)
    discounts: np.ndarray  # float32 (r,): the share of the squared length along each that does not count
    base: np.ndarray  # float32 (): variance of a direction that is not kept

    def squared_distances(self, rows, means):
        """rows: float32 (n, D).  means: float32 (m, D).  Returns float32 (n, m)."""
        along, means_along = rows @ self.directions.T, means @ self.directions.T
        whole = _squared_distances(rows, means)
        scale = np.sqrt(self.discounts)
        return (whole - _squared_distances(along * scale, means_along * scale)) / self.base


@dataclass(frozen=True)
class Neighbourhood:
    """Learned pictures among which neighbours are looked for."""

    rows: np.ndarray  # float32 (m, D), of length 1
    places: np.ndarray  # float32 (m, d) along the axes
    reach: np.ndarray  # float32 (NEIGHBOURS, m): distance there of each one's 5th neighbour, or 8th
    density: np.ndarray  # float32 (NEIGHBOURS, m): local reachability density

    def similarities(self, rows):
        """Cosine of each row's nearest neighbour.  rows: float32 (n, D), of length 1.  Returns float32 (n,)."""
        return (rows @ self.rows.T).max(axis=1)

    def log_outlier_factors(self, places):
        """places: float32 (n, d).  Returns float32 (n,): about 0 where it is as dense as around the neighbours."""
        squared, factors = _squared_distances(places, self.places), []
        for count, reach, density in zip(NEIGHBOURS, self.reach, self.density, strict=True):
            distances, nearest = _nearest(squared, count)
            reached = np.maximum(distances, reach[nearest]).mean(axis=1)
            factors.append(np.log(density[nearest].mean(axis=1) * np.maximum(reached, FLAT)))
        return np.mean(factors, axis=0)


@dataclass(frozen=True)
class Detector:
    """Scores how known pictures are.  Every array is float32."""

    means: np.ndarray  # (C, D) of the classes
    within: Gaussian  # around the mean of a class
    overall: Gaussian  # around the mean of all
    centre: np.ndarray  # (1, D) mean of all
    axes: np.ndarray  # (d, D)
    neighbourhood: Neighbourhood
    offset: np.ndarray  # (3,) mean of the measures over known pictures that were not learned
    spread: np.ndarray  # (3,) their standard deviation

    def measures(self, embeddings):
        """The three measures, float32 (n, 3), of normalized embeddings (n, D or more).  Higher is more known.

        Further columns, of a network that has learned the known, do not count: it sees the known everywhere.
        """
        embeddings = embeddings[:, : self.means.shape[1]]
        blocks = [embeddings[start : start + BLOCK] for start in range(0, len(embeddings), BLOCK)]
        return np.concatenate([self._measures(features(block)) for block in blocks or [embeddings]])

    def scores(self, embeddings):
        """How known each picture is, float32 (n,), below 0, of normalized embeddings (n, D or more)."""
        return _combine(self.measures(embeddings), self.offset, self.spread)

    def _measures(self, rows):
        near = self.within.squared_distances(rows, self.means).min(axis=1)
        far = self.overall.squared_distances(rows, self.centre)[:, 0]
        factors = self.neighbourhood.log_outlier_factors((rows - self.centre) @ self.axes.T)
        return np.stack([self.neighbourhood.similarities(rows), far - near, -factors], axis=1)


PARTS = {"within": Gaussian, "overall": Gaussian, "neighbourhood": Neighbourhood}


def cross_fit(embeddings, labels, folds):
    """Detector, and the scores of known pictures by detectors that have not learned them.

    embeddings: float32 (n, D), normalized.  labels: int (n,).  folds: int (n,); -1: every fold learns from the row.
    Returns (Detector, float32 (rows of a fold,)); (None, empty) where there are too few pictures for neighbours.
    """
    if min((np.sum(folds != fold) for fold in range(folds.max() + 1)), default=0) <= max(NEIGHBOURS):
        return None, np.empty(0, np.float32)
    measures = np.empty((len(labels), 3), np.float32)
    for fold in range(folds.max() + 1):
        held_out = folds == fold
        measures[held_out] = fit(embeddings[~held_out], labels[~held_out]).measures(embeddings[held_out])
    known = measures[folds >= 0]
    offset, spread = known.mean(axis=0), np.maximum(known.std(axis=0), FLAT)
    detector = replace(fit(embeddings, labels), offset=offset, spread=spread)
    return detector, _combine(known, offset, spread)


def fit(embeddings, labels):
    """Detector of normalized embeddings float32 (n, D) with labels int (n,); n is more than the NEIGHBOURS."""
    rows = features(embeddings)
    centre = rows.mean(axis=0, keepdims=True)
    means = np.stack([rows[labels == label].mean(axis=0) for label in np.unique(labels)])
    within, _ = _gaussian(rows - means[np.searchsorted(np.unique(labels), labels)])
    overall, axes = _gaussian(rows - centre)
    # Rounded now, because they are kept so, and a model just trained must say the same as one read from its file.
    kept = np.linspace(0, len(rows) - 1, min(len(rows), REFERENCES)).astype(int)
    references = rows[kept].astype(np.float16).astype(np.float32)
    neighbourhood = _neighbourhood(references, (references - centre) @ axes.T)
    return Detector(means, within, overall, centre, axes, neighbourhood, *UNSCALED)


def features(embeddings):
    """What the measures look at: square roots of normalized embeddings (n, D), of length 1 again."""
    rows = np.sign(embeddings) * np.sqrt(np.abs(embeddings))
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), FLAT)


def to_arrays(detector):
    """{name: array} of a Detector, for a file."""
    arrays: dict[str, np.ndarray] = {}
    for name, value in vars(detector).items():
        arrays |= {f"{name}_{part}": array for part, array in vars(value).items()} if name in PARTS else {name: value}
    return arrays | {"neighbourhood_rows": detector.neighbourhood.rows.astype(np.float16)}


def from_arrays(arrays):
    """Detector of what `to_arrays` gave.  Raises KeyError or ValueError where they are none."""
    read: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    parts: dict[str, Any] = {
        name: kind(**{part.name: read[f"{name}_{part.name}"] for part in fields(kind)}) for name, kind in PARTS.items()
    }
    detector = Detector(**{part.name: read[part.name] for part in fields(Detector) if part.name not in PARTS}, **parts)
    if not detector.offset.shape == detector.spread.shape == WEIGHTS.shape or not detector.spread.min() > 0:
        raise ValueError("offset and spread do not fit the measures")
    return detector


def _combine(measures, offset, spread):
    return -np.logaddexp(0, (offset - measures) / spread) @ WEIGHTS


def _gaussian(residuals):
    """Gaussian of residuals (n, D) and their principal directions (d, D)."""
    from sklearn.utils.extmath import randomized_svd

    _, lengths, directions = randomized_svd(residuals, min(AXES, *residuals.shape), random_state=0)
    variances = np.square(lengths[:STRETCHED]) / len(residuals)
    whole = float(np.einsum("nd,nd->", residuals, residuals)) / len(residuals)
    base = max(FLOOR * whole, FLAT)
    kept = directions[:STRETCHED].astype(np.float32)
    discounts = (variances / (variances + base)).astype(np.float32)
    return Gaussian(kept, discounts, np.asarray(base, np.float32)), directions.astype(np.float32)


def _neighbourhood(rows, places):
    squared, reaches, densities = _squared_distances(places, places), [], []
    np.fill_diagonal(squared, np.inf)
    for count in NEIGHBOURS:
        distances, nearest = _nearest(squared, count)
        reach = distances.max(axis=1)
        reached = np.maximum(distances, reach[nearest]).mean(axis=1)
        reaches.append(reach)
        densities.append(1 / np.maximum(reached, FLAT))
    return Neighbourhood(rows, places, np.stack(reaches), np.stack(densities))


def _nearest(squared_distances, count):
    """Distances of the nearest in each row, and which these are: (n, count) each."""
    nearest = np.argpartition(squared_distances, count - 1, axis=1)[:, :count]
    return np.sqrt(np.take_along_axis(squared_distances, nearest, axis=1)), nearest


def _squared_distances(rows, others):
    products = rows @ others.T
    squares = np.einsum("nd,nd->n", rows, rows)[:, None] + np.einsum("md,md->m", others, others) - 2 * products
    return np.maximum(squares, 0)
