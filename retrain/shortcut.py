"""Does a model look at the background?  Objects and backgrounds of different classes are put together, and one wins.

A class that goes with the background although the object is another's was learned by a shortcut, such as the meadow
for the cow: Beery et al. 2018, arXiv:1807.04975.  So Xiao et al. 2020, arXiv:2006.09994, measure it.  A plain colour
in place of the one or the other will not do: it looks like some class by itself, and nothing at all does so, too.
"""

from collections import namedtuple
from functools import partial

import numpy as np
from PIL import Image

from retrain.explain import otsu
from retrain.head import normalize
from retrain.metrics import softmax
from retrain.parallel import ordered_map

SAMPLE = 96  # pictures
EXAMPLES = 6  # pictures
ALPHA = 0.02  # level of the tests, of all together
MARGIN = 0.1  # of confidence, by which the background has to win
FLIPS = 10_000
GRAY = 127  # in place of a background that is shown to be gone

# A picture as one backbone sees it: its pixels uint8 (H, W, 3), where the object is bool (H, W, 1), the pixels without.
_Seen = namedtuple("_Seen", "pixels object bare")


def choose_sample(labels, correct, count=SAMPLE):
    """Rows to check: guessed rightly, as many of each class as can be, always the same.

    labels: int (n,).  correct: bool (n,).  Returns a list of rows, sorted.
    """
    rows = np.random.default_rng(0).permutation(np.flatnonzero(correct))
    turns = np.empty(len(rows), int)
    for label in np.unique(labels[rows]):
        turns[labels[rows] == label] = np.arange(np.sum(labels[rows] == label))
    return np.sort(rows[np.argsort(turns, kind="stable")][:count]).tolist()


def check_shortcut(model, images, labels):
    """Put the object of each picture on the background of one of another class: which class does the model see there?

    images: decoded pictures that were guessed right before they were learned; it may have learned them since.
    labels: their classes (n,).  Returns, for JSON: {"flagged", "classes": names of those whose background wins,
    "pictures": n, "object_masked" and "background_masked": mean confidence in a picture's class rather than the
    other's, 0-1, with its object or its background replaced; None without pictures of two classes, "examples":
    positions in `images` of those whose background wins, clearest first}.  A model that goes by the object at least as
    much as by the background is flagged with a probability of at most ALPHA.
    """
    labels, seen = np.asarray(labels, int), list(ordered_map(partial(_see, model), images))
    pairs = np.empty((0, 2), int) if None in seen else _pairs(labels)
    objects, backgrounds = np.concatenate([pairs, pairs[:, ::-1]]).T
    duels = ordered_map(lambda pair: _duel(model, seen, labels, *pair), zip(objects, backgrounds, strict=True))
    masked = np.array(list(duels), float)
    wins = 2 * masked - 1
    overall, winners = _find_winners(wins, labels[backgrounds])
    clearest = [row for row in np.argsort(-wins, kind="stable") if wins[row] > MARGIN]
    return {
        "flagged": overall or bool(winners),
        "classes": [model.classes[number] for number in winners],
        "pictures": len(wins),
        "object_masked": float(masked.mean()) if len(wins) else None,
        "background_masked": float(1 - masked.mean()) if len(wins) else None,
        "examples": backgrounds[clearest[:EXAMPLES]].tolist(),
    }


def take_apart(model, image):
    """The two pictures that a checked one consists of: without its object, and without its background."""
    pixels, found, bare = _see(model, image)[0]
    return Image.fromarray(bare), Image.fromarray(np.where(found, pixels, GRAY).astype(np.uint8))


def _find_winners(wins, labels):
    """Whether backgrounds win over all, and the classes whose own do: (bool, list of int).

    wins: confidence in the class of each background less that of the object on it, float (2 p,): p pairs one way, then
    the other.  labels: of the backgrounds (2 p,).  A pair counts once in each test, for all of them over both ways.
    The level of all tests together is ALPHA: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    classes = np.unique(labels).tolist()
    tested = [wins.reshape(2, -1).mean(axis=0), *(wins[labels == number] for number in classes)]
    chances = np.array([_chance(differences) for differences in tested])
    order = np.argsort(chances, kind="stable")
    passed = np.logical_and.accumulate(chances[order] < ALPHA / np.arange(len(order), 0, -1))
    won = set(order[passed].tolist())
    return 0 in won, [number for place, number in enumerate(classes, 1) if place in won]


def _chance(differences):
    """Probability of differences as far above zero, were their signs chance; 1 where they are too small to matter."""
    if not len(differences) or differences.mean() < MARGIN:
        return 1.0
    flipped = np.random.default_rng(0).choice([-1, 1], (FLIPS, len(differences))) @ differences
    # The same sum in another order of summation is as far above.
    return (1 + np.sum(flipped >= differences.sum() - 1e-9)) / (1 + FLIPS)


def _see(model, image):
    """A _Seen for each backbone, or None where the first has no feature map.

    The object is where that has most energy, whatever the head: Wei et al. 2017, arXiv:1604.04994.  The middle of the
    picture, taken instead, tells no photos of flowers from a shortcut.
    """
    entries = [backbone.to_input(image) for backbone in model.backbones]
    feature_map = model.backbones[0].look(entries[0])[1]
    if feature_map is None:
        return None
    energy = Image.fromarray(feature_map.sum(axis=-1))
    return [_cut_out(pixels, energy) for pixels in entries]


def _cut_out(pixels, energy):
    energy = np.asarray(energy.resize(pixels.shape[1::-1], Image.Resampling.BILINEAR))
    energy = (energy - energy.min()) / max(float(np.ptp(energy)), 1e-12)
    found = (energy > otsu(energy))[..., None]
    color = pixels.mean(axis=(0, 1), where=~found)
    return _Seen(pixels, found, np.where(found, color, pixels).astype(np.uint8))


def _pairs(labels):
    """As many pairs of rows of different classes as can be, no row in two of them: int (p, 2)."""
    order = np.argsort(labels, kind="stable")
    apart = max(np.bincount(labels).max(initial=0), (len(labels) + 1) // 2)
    return np.stack([order[: len(order) - apart], order[apart:]], axis=1)


def _duel(model, seen, labels, one, other):
    """Confidence in the class of the other's background, rather than that of the one's object on it."""
    mixed = [np.where(a.object, a.pixels, b.bare) for a, b in zip(seen[one], seen[other], strict=True)]
    parts = [backbone.embed(pixels[None]) for backbone, pixels in zip(model.backbones, mixed, strict=True)]
    logits = model.head.logits(normalize(parts)) / np.float32(model.temperature)
    return float(softmax(logits[:, labels[[one, other]]])[0, 1])
