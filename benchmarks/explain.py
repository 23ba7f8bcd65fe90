"""Do heat maps point at the object, and is a shortcut found?  On drawn pictures, whose object is known."""

import colorsys
import math
from collections import namedtuple
from functools import partial
from hashlib import sha256
from random import Random
from time import perf_counter

import numpy as np
from PIL import Image, ImageDraw
from scipy.stats import spearmanr, wilcoxon

from benchmarks.labels import stored
from retrain.backbones import load_backbone
from retrain.calibrate import fit_temperature
from retrain.explain import class_map, heat
from retrain.head import Head, fit_head, make_folds, normalize, search_C
from retrain.images import decode, read
from retrain.metrics import softmax
from retrain.model import Model
from retrain.options import QUALITIES
from retrain.parallel import ordered_map
from retrain.recipes.sampling import SUBJECTS, draw_background, draw_on
from retrain.shortcut import check_shortcut, choose_sample

NAMES = list(SUBJECTS)
LEARNED, TESTED = 40, 12  # pictures a class
CHECKED = 30  # pictures a class, of which those guessed right are checked for a shortcut
SEEDS = 10
SIZE = 256  # px
TOLERANCE = 15 / 224 * SIZE  # px, as Zhang et al. 2018, arXiv:1608.00507, allow
SHARES = (0.2, 0.35), (0.35, 0.5), (0.5, 0.7)  # of the picture's side that the object takes
STEPS = 8  # of the deletion curve

Scene = namedtuple("Scene", "image box label")  # box: (left, top, right, bottom) of the object, px


def measure(bench):
    scenes = draw_scenes("any background", 4 * TESTED, "tested")
    shares = np.array([(scene.box[2] - scene.box[0]) / SIZE for scene in scenes])
    rows, ratios, models = [], {}, {}
    for quality, backbone in QUALITIES.items():
        if quality == "best":  # as good, until it is fine-tuned
            continue
        models[quality] = learn(draw_scenes("any background", 2 * LEARNED, "learned"), backbone)
        hits = np.array(list(ordered_map(partial(points_at_object, models[quality]), scenes)))
        for low, high in SHARES:
            found = hits[(low <= shares) & (shares < high)]
            what = f"{quality}: hottest on an object that takes {100 * low:.0f}-{100 * high:.0f} % of the side"
            rows.append({"what": what, "pictures": len(found), "%": _percent(found.mean())})
        ratios[f"{quality}: hottest on the object, %"] = _percent(hits.mean())
    orders = {"hottest first": hottest_first, "at random": at_random}
    curves = {name: deletion(models["fast"], scenes, order) for name, order in orders.items()}
    rows += [{"what": f"confidence while cells go, {name}", "mean": _round(curve)} for name, curve in curves.items()]
    ratios["deletion no better than at random, p"] = float(wilcoxon(*curves.values(), alternative="less").pvalue)
    rows.append({"what": "rank correlation with a random head's map", "mean": _round(likeness(models["fast"], scenes))})
    found = {kind: [check(kind, LEARNED, CHECKED, seed) for seed in range(SEEDS)] for kind in KINDS}
    found["photos as they are"] = [_check_photos(bench)]
    rows += [_row(kind, results) for kind, results in found.items()]
    return {"rows": rows, "ratios": ratios}


def draw_scenes(kind, count, seed, names=NAMES):
    """So many scenes of each class.  kind: a key of KINDS."""
    return [
        Scene(*KINDS[kind](Random(f"{seed}/{kind}/{name}/{each}"), number, names), number)
        for number, name in enumerate(names)
        for each in range(count)
    ]


def learn(scenes, backbone=QUALITIES["fast"], names=NAMES):
    """Model of scenes."""
    backbones = [load_backbone(name) for name in backbone.split("+")]
    labels = np.array([scene.label for scene in scenes])
    digests = [sha256(scene.image.tobytes()).digest() for scene in scenes]
    return _fit(names, backbones, _embed(backbones, scenes), labels, digests)


def points_at_object(model, scene):
    """Whether the hottest pixel is on the object, within the tolerance: the pointing game."""
    hot = heat(model, scene.image, scene.label)
    y, x = np.unravel_index(np.argmax(hot), hot.shape)
    left, top, right, bottom = scene.box
    return left - TOLERANCE <= x <= right + TOLERANCE and top - TOLERANCE <= y <= bottom + TOLERANCE


def deletion(model, scenes, order):
    """Mean confidence in the class of each scene while its cells go, a share at each step: float (n,).

    order: function of model and scene, which returns the rank int (h, w) of each cell.  What is gone has the picture's
    mean colour.  Petsiuk et al. 2018, arXiv:1806.07421.
    """
    return np.array(list(ordered_map(lambda scene: _deletion(model, scene, order(model, scene)), scenes)))


def hottest_first(model, scene):
    cells = class_map(model, scene.image, scene.label)
    return np.argsort(np.argsort(-cells, axis=None)).reshape(cells.shape)


def at_random(model, scene):
    cells = class_map(model, scene.image, scene.label)
    return np.random.default_rng(0).permutation(cells.size).reshape(cells.shape)


def likeness(model, scenes):
    """Rank correlation (n,) of each scene's map with that of a head whose weights are drawn at random."""
    weights = np.random.default_rng(0).normal(size=model.head.weights.shape).astype(np.float32)
    other = Model(model.classes, model.backbones, Head(weights, model.head.intercept))
    maps = [[class_map(each, scene.image, scene.label).ravel() for each in (model, other)] for scene in scenes]
    return np.array([spearmanr(*pair).statistic for pair in maps])


def check(kind, learned, tested, seed, names=NAMES):
    """What `check_shortcut` finds in so many scenes of that kind, and the seconds that it takes."""
    model = learn(draw_scenes(kind, learned, f"learned {seed}", names), names=names)
    scenes = draw_scenes(kind, tested, f"tested {seed}", names)
    labels = np.array([scene.label for scene in scenes])
    return _check(model, _embed(model.backbones, scenes), labels, lambda row: scenes[row].image)


def _check_photos(bench):
    dataset, embedded = stored(bench.photos)
    embeddings, labels = normalize(embedded.embeddings), np.array(dataset.labels)[embedded.kept]
    kept_back = make_folds(labels, embedded.digests) == 0
    digests = [embedded.digests[row] for row in np.flatnonzero(~kept_back)]
    backbones = [load_backbone(QUALITIES["fast"])]
    model = _fit(dataset.classes, backbones, embeddings[~kept_back], labels[~kept_back], digests)
    paths = [dataset.paths[embedded.kept[row]] for row in np.flatnonzero(kept_back)]
    return _check(model, embeddings[kept_back], labels[kept_back], lambda row: decode(read(paths[row])))


def _check(model, embeddings, labels, image_of):
    rows = choose_sample(labels, model.head.logits(embeddings).argmax(axis=1) == labels)
    images, start = [image_of(row) for row in rows], perf_counter()
    return check_shortcut(model, images, labels[rows]) | {"seconds": perf_counter() - start}


def _row(kind, results):
    masked = {
        f"{part} replaced": _round([found[f"{part}_masked"] for found in results]) for part in ("object", "background")
    }
    flagged, seconds = sum(found["flagged"] for found in results), max(found["seconds"] for found in results)
    return {
        "what": f"shortcut: {kind}",
        "flagged": f"{flagged} of {len(results)}",
        **masked,
        "seconds": round(seconds, 2),
    }


def _deletion(model, scene, ranks):
    (backbone,) = model.backbones
    pixels = backbone.to_input(scene.image)
    ranks = np.kron(ranks, np.ones((pixels.shape[0] // ranks.shape[0], pixels.shape[1] // ranks.shape[1]), int))
    gone = [(ranks < (ranks.max() + 1) * step / STEPS)[..., None] for step in range(1, STEPS)]
    images = np.stack([np.where(cells, pixels.mean(axis=(0, 1)), pixels).astype(np.uint8) for cells in gone])
    logits = model.head.logits(normalize([backbone.embed(images)])) / model.temperature
    return float(softmax(logits)[:, scene.label].mean())


def _fit(names, backbones, embeddings, labels, digests):
    search = search_C(embeddings, labels, digests, len(names))
    head = fit_head(embeddings, labels, len(names), search.C)
    return Model(names, backbones, head, fit_temperature(search.logits, labels[search.rows]))


def _embed(backbones, scenes):
    def embed(backbone):
        return np.stack([*ordered_map(lambda scene: backbone.embed(backbone.to_input(scene.image)[None])[0], scenes)])

    return normalize([embed(backbone) for backbone in backbones])


def _on_any(random, number, names):
    return draw_on(draw_background(random, SIZE), names[number], random)


def _on_any_stripes(random, number, names):
    return draw_on(_stripes(random, random.random()), names[number], random)


def _on_own_color(random, number, names):
    hue = (number + random.uniform(-0.15, 0.15)) / len(names)
    shade = colorsys.hsv_to_rgb(hue % 1, random.uniform(0.5, 0.9), random.uniform(0.5, 1))
    return draw_on(
        Image.new("RGB", (SIZE, SIZE), tuple(round(255 * part) for part in shade)), random.choice(NAMES), random
    )


def _on_own_stripes(random, number, names):
    return draw_on(_stripes(random, number / len(names)), random.choice(NAMES), random)


# What tells the class, the object or, planted, the background alone → how such a picture is drawn.
KINDS = {
    "any background": _on_any,
    "any stripes": _on_any_stripes,
    "planted color": _on_own_color,
    "planted stripes": _on_own_stripes,
}


def _stripes(random, turn):
    """Two colours in stripes.  turn: their direction, as a share of half a circle."""
    image, colors = Image.new("RGB", (SIZE, SIZE)), [draw_background(random, SIZE) for _ in range(2)]
    mask = Image.new("L", image.size)
    canvas, step = ImageDraw.Draw(mask), random.randint(14, 26)
    along, across = (
        (math.cos(math.pi * turn), math.sin(math.pi * turn)),
        (-math.sin(math.pi * turn), math.cos(math.pi * turn)),
    )
    for offset in range(-SIZE, SIZE, step):
        middle = [SIZE / 2 + offset * across[0], SIZE / 2 + offset * across[1]]
        ends = [(middle[0] + way * SIZE * along[0], middle[1] + way * SIZE * along[1]) for way in (-1, 1)]
        canvas.line(ends, fill=255, width=step // 2)
    return Image.composite(*colors, mask)


def _round(values):
    return round(float(np.mean(values)), 3)


def _percent(share):
    return round(100 * float(share), 1)
