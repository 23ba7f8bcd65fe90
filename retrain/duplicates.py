"""Which pictures are copies of one another: groups that no split may tear apart.

Copies are a picture resized, recompressed, cropped by some percent, mirrored, or made brighter or darker.  Neighbours
by embedding are confirmed by the perceptual hash, neighbours by perceptual hash by the embedding.  The limits come from
`python -m benchmarks duplicates`.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from retrain.images import THUMBNAIL_SIDE

HASH_SIDE = 16  # lowest frequencies each way: a hash has 256 bits
NEAR = 0.7  # cosine of embeddings, from which two pictures are neighbours
ALIKE = 0.5  # cosine that confirms neighbours by hash
SAME_BITS = 24  # hashes that differ in so many bits are neighbours
SAME_CROPPED_BITS = 52  # hashes of the best-fitting crops that confirm neighbours by embedding
CROPS = 0.95, 0.9, 0.85  # of the side
PLACES = 0, 0.5, 1  # of a crop, from one border to the other
BLOCK = 1024  # rows compared at a time, to bound memory


class Pairs(NamedTuple):
    """Near-duplicates: rows `first` < `second`, cosine of the embeddings, bits of 256 that differ; arrays (p,)."""

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray
    bits: np.ndarray


def find_pairs(embeddings, thumbnails):
    """Pairs of pictures that are copies of one another.

    embeddings: float32 (n, D), normalized.  thumbnails: uint8 (n, THUMBNAIL_SIDE²).
    """
    hashes = perceptual_hashes(thumbnails)
    plain, mirrored = (np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1 for bits in (hashes[:, 0], hashes[:, -1]))
    least = plain.shape[1] - 2 * SAME_BITS
    found = []
    for start in range(0, len(embeddings), BLOCK):
        rows = slice(start, start + BLOCK)
        cosine = embeddings[rows] @ embeddings[start:].T
        near = cosine >= NEAR
        for bits in (plain, mirrored):
            near |= (plain[rows] @ bits[start:].T >= least) & (cosine >= ALIKE)
        first, second = np.nonzero(np.triu(near, 1))
        bits = _differing_bits(hashes[start:], first, second)
        same = bits <= SAME_CROPPED_BITS
        first, second = first[same], second[same]
        found.append((first + start, second + start, cosine[first, second], bits[same]))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def perceptual_hashes(thumbnails):
    """pHash of the whole thumbnail, of its crops and, last, of its mirror image: uint8 (n, hashes, 32), packed bits.

    The signs of the lowest DCT frequencies against their median, as `imagehash.phash` has them (Zauner 2010).  A crop
    scaled up again is a linear map, as the DCT is, so both are one matrix.
    """
    whole = _low_frequencies(0, 1)
    crops = [
        (_low_frequencies(top * (1 - share), share), _low_frequencies(left * (1 - share), share))
        for share, top, left in product(CROPS, PLACES, PLACES)
    ]
    mirror = np.where(np.arange(HASH_SIDE) % 2, -1, 1)  # it negates the odd frequencies
    views = [(whole, whole), *crops, (whole, mirror[:, None] * whole)]
    hashes = np.empty((len(thumbnails), len(views), HASH_SIDE**2 // 8), np.uint8)
    for start in range(0, len(thumbnails), BLOCK):
        rows = slice(start, start + BLOCK)
        images = thumbnails[rows].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32)
        for number, (down, across) in enumerate(views):
            frequencies = (down @ images @ across.T).reshape(len(images), -1)
            bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
            hashes[rows, number] = np.packbits(bits, axis=1)
    return hashes


def _low_frequencies(start, share):
    """Matrix (HASH_SIDE, THUMBNAIL_SIDE): crop a row of pixels, scale it up again, take the lowest DCT frequencies."""
    from scipy.fft import dct

    at = (start + share * (np.arange(THUMBNAIL_SIDE) + 0.5) / THUMBNAIL_SIDE) * THUMBNAIL_SIDE - 0.5
    pixels = np.arange(THUMBNAIL_SIDE)
    scale_up = np.maximum(0, 1 - abs(np.clip(at, 0, THUMBNAIL_SIDE - 1)[:, None] - pixels))  # linear interpolation
    return (dct(np.eye(THUMBNAIL_SIDE), axis=0)[:HASH_SIDE] @ scale_up).astype(np.float32)


def _differing_bits(hashes, first, second):
    """Bits in which the best-fitting views of two pictures differ: int (pairs,).  One of the two is whole."""
    words = hashes.view(np.uint64)
    best = np.full(len(first), HASH_SIDE**2)
    for one, other in [(first, second), (second, first)]:
        for whole, view in product((0, -1), range(words.shape[1])):
            differing = np.bitwise_count(words[one, whole] ^ words[other, view]).sum(axis=1, dtype=int)
            np.minimum(best, differing, out=best)
    return best


def group_by(digests, *relations):
    """Name of each picture's group, bytes: the largest digest in it.

    As `split` goes by it, a copy that comes in may move its group out of the test, but never into it.
    digests: sha256 of each picture; equal ones are one group.  relations: (first, second) rows that belong together.
    """
    owner = {digest: digest for digest in digests}

    def find(digest):
        while owner[digest] != digest:
            owner[digest] = digest = owner[owner[digest]]
        return digest

    for first, second in relations:
        for one, other in zip(first, second, strict=True):
            low, high = sorted([find(digests[one]), find(digests[other])])
            owner[low] = high
    return [find(digest) for digest in digests]
