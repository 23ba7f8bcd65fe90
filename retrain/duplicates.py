"""Which pictures are copies of one another: groups that no split may tear apart.

Copies are a picture resized, recompressed, cropped by some percent, mirrored, or made brighter or darker.  Neighbours
by perceptual hash are confirmed by the embedding.  Where the hashes leave a doubt, the pictures are laid upon one
another, which tells a crop from the next shot of a burst.  The limits come from `python -m benchmarks duplicates`.
"""

from itertools import chain, count
from typing import NamedTuple

import numpy as np

from retrain.images import THUMBNAIL_SIDE
from retrain.parallel import ordered_map

HASH_SIDE = 16  # lowest frequencies each way: a hash has 256 bits
COARSE_SIDE = 8  # of these; the 64 bits of a picture or its middle, by which all are compared with all
COARSE_BITS = 18  # that may differ in neighbours
SAME_CROPPED_BITS = 60  # of 256, that may differ in hashes of the best-fitting crops
ALIKE = 0.5  # cosine of the embeddings that confirms it
SURE_BITS = 12  # beyond these the pictures are laid upon one another
FITTING = 0.982  # correlation of their pixels then
CROPS = 0.95, 0.9  # of the side
PLACES = 0, 0.5, 1  # of a crop, from one border to the other
VIEWS = 2 + len(CROPS) * len(PLACES) ** 2
WHOLE, MIDDLE, MIRRORED = 0, -2 - len(PLACES) ** 2 // 2, -1  # of the hashes of a picture
BLOCK = 256  # pictures compared with so many at a time, to stay in the processor's cache
PORTION = 1_024  # pictures or pairs looked at together
FIT_SIDE = 32  # px
FIT_BLUR = 1.35  # px of a thumbnail; pixels between sharp ones cannot be told well
FIT_STEPS = 7
FIT_BLOCK = 64  # pairs at a time, so that they stay in the processor's cache
OVERLAP = 0.7  # of the area, at least


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
    words, coarse = _hash_all(thumbnails)
    tops = range(0, len(thumbnails) or 1, BLOCK)
    found = ordered_map(lambda top: _similar(embeddings, words, _neighbours(coarse, top)), tops)
    pairs = Pairs(*map(np.concatenate, zip(*chain.from_iterable(found), strict=True)))
    doubtful = np.flatnonzero(pairs.bits > SURE_BITS)
    blocks = (doubtful[start : start + FIT_BLOCK] for start in range(0, len(doubtful), FIT_BLOCK))
    fits = ordered_map(lambda rows: _fit(thumbnails, pairs.first[rows], pairs.second[rows]), blocks)
    same = np.ones(len(pairs.bits), bool)
    same[doubtful] = np.concatenate([np.empty(0), *fits]) >= FITTING
    return Pairs(*(column[same] for column in pairs))


def _similar(embeddings, words, neighbours):
    """List of Pairs: those of the neighbours that hash and embedding take for the same picture."""
    found = []
    for first, second in _gathered(neighbours):
        bits = _differing_bits(words, first, second)
        near = bits <= SAME_CROPPED_BITS
        first, second = first[near], second[near]
        blocks = (slice(start, start + PORTION) for start in range(0, len(first) or 1, PORTION))
        cosine = np.concatenate(
            [np.einsum("pd,pd->p", embeddings[first[rows]], embeddings[second[rows]]) for rows in blocks]
        )
        alike = cosine >= ALIKE
        found.append(Pairs(first[alike], second[alike], cosine[alike], bits[near][alike]))
    return found


def _hash_all(thumbnails):
    """Hashes of all pictures, and of each picture, its middle and its mirror image the lowest frequencies of them.

    The words of the hashes lie apart and view by view, for long rows are what NumPy is quick with.
    Returns uint64 (4, views, n) and (3, n).
    """
    words = np.empty((HASH_SIDE**2 // 64, VIEWS, len(thumbnails)), np.uint64)
    coarse = np.empty((3, len(thumbnails)), np.uint64)

    def fill(start):
        rows = slice(start, start + PORTION)
        hashes = perceptual_hashes(thumbnails[rows])
        words[:, :, rows] = hashes.view(np.uint64).transpose(2, 1, 0)
        signs = np.unpackbits(hashes[:, [WHOLE, MIDDLE, MIRRORED]], axis=2)
        lowest = signs.reshape(-1, 3, HASH_SIDE, HASH_SIDE)[:, :, :COARSE_SIDE, :COARSE_SIDE]
        coarse[:, rows] = np.packbits(lowest.reshape(-1, 3, COARSE_SIDE**2), axis=2).view(np.uint64)[:, :, 0].T

    for _ in ordered_map(fill, range(0, len(thumbnails), PORTION)):
        pass
    return words, coarse


def _neighbours(coarse, top):
    """Yield (first, second), rows of pictures whose lowest frequencies are alike, the first from `top` on.

    coarse: see `_hash_all`.
    """
    whole, middle, mirrored = coarse[:, top : top + BLOCK, None]
    for left in range(top, coarse.shape[1], BLOCK):
        others = coarse[:, left : left + BLOCK]
        views = [(whole, 0), (mirrored, 0), (whole, 1), (middle, 0), (mirrored, 1), (middle, 2)]
        apart, bits = np.empty((2, len(whole), others.shape[1]), np.uint8)
        apart[:], differing = COARSE_SIDE**2, np.empty(apart.shape, np.uint64)
        for one, number in views:  # into the same memory each time, which stays in the processor's cache
            np.bitwise_count(np.bitwise_xor(one, others[number], out=differing), out=bits)
            np.minimum(apart, bits, out=apart)
        row, column = np.divmod(np.flatnonzero(apart <= COARSE_BITS), others.shape[1])
        later = column + left > row + top
        yield row[later] + top, column[later] + left


def _gathered(neighbours):
    """Yield what `_neighbours` does in portions neither small, which cost time, nor large, which cost memory."""
    waiting, number = [], 0
    for pairs in neighbours:
        waiting.append(pairs)
        number += len(pairs[0])
        if number >= PORTION:
            yield tuple(map(np.concatenate, zip(*waiting, strict=True)))
            waiting, number = [], 0
    first, second = zip(*waiting, strict=True) if waiting else ([np.empty(0, int)],) * 2
    yield np.concatenate(first), np.concatenate(second)


def perceptual_hashes(thumbnails):
    """pHash of the whole thumbnail, of its crops and, last, of its mirror image: uint8 (n, hashes, 32), packed bits.

    The signs of the lowest DCT frequencies against their median, as `imagehash.phash` has them (Zauner 2010).  A crop
    scaled up again is a linear map, as the DCT is, so both are one matrix.
    """
    whole = _low_frequencies(0, 1)
    mirror = np.where(np.arange(HASH_SIDE) % 2, -1, 1)  # it negates the odd frequencies
    crops = [[_low_frequencies(place * (1 - share), share) for place in PLACES] for share in CROPS]
    views = [(whole, [whole]), *((down, places) for places in crops for down in places)]
    views.append((whole, [mirror[:, None] * whole]))
    hashes = np.empty((len(thumbnails), VIEWS, HASH_SIDE**2 // 8), np.uint8)
    lower_half = HASH_SIDE**2 // 2 - 1
    for start in range(0, len(thumbnails), BLOCK):
        rows = slice(start, start + BLOCK)
        images, number = thumbnails[rows].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32), count()
        for down, acrosses in views:
            columns = down @ images
            for across in acrosses:
                frequencies = (columns @ across.T).reshape(len(images), -1)
                # More than this is more than the median, which takes NumPy ten times as long.
                bits = frequencies > np.partition(frequencies, lower_half, axis=1)[:, lower_half, None]
                hashes[rows, next(number)] = np.packbits(bits, axis=1)
    return hashes


def _low_frequencies(start, share):
    """Matrix (HASH_SIDE, THUMBNAIL_SIDE): crop a row of pixels, scale it up again, take the lowest DCT frequencies."""
    from scipy.fft import dct

    at = start + share * (np.arange(THUMBNAIL_SIDE) + 0.5) / THUMBNAIL_SIDE
    return (dct(np.eye(THUMBNAIL_SIDE), axis=0)[:HASH_SIDE] @ _interpolation(at, THUMBNAIL_SIDE)).astype(np.float32)


def _interpolation(at, side):
    """Matrices (…, side) that read a row of `side` pixels at places from 0 to 1, linearly between them."""
    at = np.clip(at * side - 0.5, 0, side - 1)
    return np.maximum(0, 1 - abs(at[..., None] - np.arange(side)))


def _differing_bits(words, first, second):
    """Bits in which the best-fitting views of two pictures differ: int (pairs,).  One of the two is whole.

    words: uint64 (4, views, n).
    """
    best = np.full(len(first), HASH_SIDE**2 - 1, np.uint8)
    for start in range(0, len(first), PORTION):
        rows = slice(start, start + PORTION)
        shape = words.shape[1], len(best[rows])
        differing, counts = np.empty(shape, np.uint64), np.empty(shape, np.uint8)
        most = np.full(shape[1], 63, np.uint8)  # 4 x 64 would be 0 in 8 bits
        for one, other in [(first[rows], second[rows]), (second[rows], first[rows])]:
            totals = np.zeros((2, *shape), np.uint8)
            for word in words:
                theirs = word.take(other, axis=1)
                for total, ours in zip(totals, (WHOLE, MIRRORED), strict=True):
                    np.bitwise_count(np.bitwise_xor(word[ours].take(one), theirs, out=differing), out=counts)
                    np.add(total, np.minimum(counts, most, out=counts), out=total)
            np.minimum(best[rows], totals.min(axis=(0, 1)), out=best[rows])
    return best.astype(int)


def _fit(thumbnails, first, second):
    """Correlation of two pictures laid upon one another, or of one and the other's mirror image: (pairs,)."""
    pixels = np.arange(THUMBNAIL_SIDE)
    middles = (np.arange(FIT_SIDE) + 0.5) * THUMBNAIL_SIDE / FIT_SIDE - 0.5
    blur = np.exp(-(((middles[:, None] - pixels) / FIT_BLUR) ** 2) / 2)
    blur = (blur / blur.sum(axis=1, keepdims=True)).astype(np.float32)
    one, other = (
        blur @ thumbnails[numbers].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32) @ blur.T
        for numbers in (first, second)
    )
    return np.maximum(_lay_upon(one, other), _lay_upon(one, other[:, :, ::-1]))


def _lay_upon(one, other):
    """Correlation where scale and shift of the second pictures fit best: (pairs,).

    Gauss-Newton on both and on contrast and brightness (Lucas and Kanade 1981).
    one, other: float32 (pairs, side, side).
    """
    pairs, side, _ = one.shape
    at = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    fit = np.tile(np.array([1, 0, 1, 0], np.float32), (pairs, 1))  # scale and shift, down and across
    best = np.zeros(pairs, np.float32)
    for _ in range(FIT_STEPS):
        down, across = fit[:, :1] * at + fit[:, 1:2], fit[:, 2:3] * at + fit[:, 3:]
        seen = (abs(down) <= 0.5)[:, :, None] & (abs(across) <= 0.5)[:, None]
        moved = _interpolation(down + 0.5, side).astype(np.float32) @ other
        moved = moved @ _interpolation(across + 0.5, side).astype(np.float32).transpose(0, 2, 1)
        overlaps = seen.mean(axis=(1, 2)) >= OVERLAP
        best = np.maximum(best, np.where(overlaps, _correlation(one, moved, seen), 0))
        slope_down, slope_across = np.gradient(moved, 1 / side, axis=(1, 2))
        slopes = slope_down * at[:, None], slope_down, slope_across * at, slope_across, moved, np.ones_like(moved)
        change = np.stack(slopes, axis=-1).reshape(pairs, -1, 6) * seen.reshape(pairs, -1, 1)
        normal, wanted = change.transpose(0, 2, 1) @ change, change.transpose(0, 2, 1) @ one.reshape(pairs, -1, 1)
        damping = 1e-6 + 1e-5 * np.einsum("pii->p", normal)[:, None, None]  # a blank picture fits anywhere
        *step, contrast, _ = np.linalg.solve(normal + damping * np.eye(6, dtype=np.float32), wanted)[:, :, 0].T
        fit += np.clip(np.array(step).T / np.maximum(contrast, 0.2)[:, None], -0.05, 0.05)
    return best


def _correlation(one, other, seen):
    count = np.maximum(seen.sum(axis=(1, 2), keepdims=True), 1)
    one, other = (image * seen for image in (one, other))
    one, other = (image - seen * image.sum(axis=(1, 2), keepdims=True) / count for image in (one, other))
    norms = np.einsum("pij,pij->p", one, one) * np.einsum("pij,pij->p", other, other)
    return np.einsum("pij,pij->p", one, other) / np.sqrt(np.maximum(norms, 1e-6))


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
