"""What the checks look at: everything known of the pictures of one folder."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageStat

from retrain.bottlenecks import Kind
from retrain.checks.blank import MIN_CONTRAST
from retrain.duplicates import Pairs, find_pairs, group_by
from retrain.images import DECODER_VERSION, ImageError

MEASURED_SIDE = 256  # px; the shorter side is brought down to this before light and sharpness are measured
TILES = 8  # each way, but of a small picture
TILE_SIDE = 8  # px, at least


@dataclass
class Evidence:
    """The readable pictures, row by row, and the files that are none.

    embeddings: float32 (n, D), normalized.  thumbnails: see `images.thumbnail`.  measures: see `measure`.
    labels: int (n,) into classes; classes: the only one is "" where there are no class folders.
    """

    paths: list[Path]
    labels: np.ndarray
    classes: list[str]
    tested: np.ndarray  # bool (n,): lies in test/
    digests: list[bytes]
    embeddings: np.ndarray | None
    thumbnails: np.ndarray
    measures: np.ndarray
    refused: list[tuple[Path, ImageError]]

    @cached_property
    def pairs(self):
        """Near-duplicates.  Blank pictures are alike, and no copies."""
        pairs = find_pairs(self.embeddings, self.thumbnails)
        shows = self.measures[:, 3] >= MIN_CONTRAST
        both = shows[pairs.first] & shows[pairs.second]
        return Pairs(*(column[both] for column in pairs))

    @cached_property
    def groups(self):
        """Name of each picture's group of copies."""
        return group_by(self.digests, self.pairs[:2])

    def best(self, rows):
        """Of copies, the row to keep: tested rather than trained, most bytes, shortest name, first."""

        def rank(row):
            path = self.paths[row]
            return not self.tested[row], -path.stat().st_size, len(path.name), str(path)

        return min(rows, key=rank)


def rows_by(names):
    """Lists of the rows that have the same name, where there are two or more."""
    rows = defaultdict(list)
    for row, name in enumerate(names):
        rows[name].append(row)
    return [members for members in rows.values() if len(members) > 1]


def measure(image):
    """Width, height, light, contrast and sharpness of a decoded picture: float32 (5,).

    light: value that 99 % of the pixels stay below, 0 to 255.  contrast: standard deviation.  sharpness: variance of
    the Laplacian (Pech-Pacheco et al. 2000) in the sharpest tile: the background of a photo may well be blurred.
    Each is that of the colour channel where it is greatest: blue on red may be of one brightness.  Width and height are
    those after decoding, which brings large JPEGs down.
    """
    scale = min(1, MEASURED_SIDE / min(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    counts = np.reshape(small.histogram(), (3, 256))
    contrast = ImageStat.Stat(small).stddev
    light = (counts.cumsum(axis=1) < 0.99 * counts[0].sum()).sum(axis=1)
    return np.array([*image.size, light.max(), max(contrast), _sharpness(small)], np.float32)


def _sharpness(image):
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32)  # a channel at a time, which is faster to add up
    rows, columns = (max(0, side - 2) for side in pixels.shape[1:])
    if not rows or not columns:
        return 0
    around = pixels[:, :-2, 1:-1] + pixels[:, 2:, 1:-1] + pixels[:, 1:-1, :-2] + pixels[:, 1:-1, 2:]
    laplacian = 4 * pixels[:, 1:-1, 1:-1] - around
    down, across = (min(TILES, max(1, side // TILE_SIDE)) for side in (rows, columns))
    high, wide = rows // down, columns // across
    tiles = laplacian[:, : down * high, : across * wide].reshape(3, down, high, across, wide)
    mean = np.einsum("cahbw->cab", tiles) / (high * wide)
    square = np.einsum("cahbw,cahbw->cab", tiles, tiles) / (high * wide)
    return (square - mean * mean).max()


MEASURES = Kind(f"measures2-decoder{DECODER_VERSION}", np.float32, 5, measure)
