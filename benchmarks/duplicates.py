"""Near-duplicates: copies of photos, made here, that end in the group of their source, and photos merged wrongly."""

import random
from collections import Counter
from itertools import combinations

from PIL import ImageEnhance, ImageOps

from benchmarks.common import seconds_of
from retrain.backbones import load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import find_dataset, find_parts
from retrain.duplicates import find_pairs, group_by
from retrain.head import normalize
from retrain.images import decode, read
from retrain.options import QUALITIES

COPIES = 500
CROP = 0.05  # of each side


def _resized(image, dice):
    scale = dice.choice([0.4, 0.5, 0.7, 1.5])
    return image.resize((round(scale * image.width), round(scale * image.height)))


def _cropped(image, dice):
    width, height = (round((1 - CROP) * side) for side in image.size)
    left, top = dice.randint(0, image.width - width), dice.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _cropped_all_around(image, _dice):
    across, down = (round(CROP * side) for side in image.size)
    return image.crop((across, down, image.width - across, image.height - down))


CHANGES = {
    "resized": _resized,
    "JPEG quality 50": lambda image, _dice: image,
    "cropped by 5 %": _cropped,
    "cropped by 5 % all around": _cropped_all_around,
    "brighter or darker by 15 %": lambda image, dice: ImageEnhance.Brightness(image).enhance(dice.choice([0.85, 1.15])),
    "mirrored": lambda image, _dice: ImageOps.mirror(image),
}
QUALITY = {"JPEG quality 50": 50}  # of JPEG; else 90


def measure(bench):
    beside = bench.photos.parent
    photos = find_dataset(beside if find_parts(beside) else bench.photos).paths
    dice = random.Random(0)
    sources = dice.sample(range(len(photos)), min(COPIES, len(photos)))
    copies = [
        (row, change, _write_copy(photos[row], change, dice, bench.folder / f"{number}.jpg"))
        for number, (row, change) in enumerate(zip(sources, list(CHANGES) * len(sources), strict=False))
    ]
    with Store(None) as store:
        files = [*photos, *(path for *_, path in copies)]
        embedded = embed_files(files, [load_backbone(QUALITIES["fast"])], store)
    embeddings = normalize(embedded.embeddings)
    pairs = find_pairs(embeddings, embedded.thumbnails)
    groups = group_by(embedded.digests, pairs[:2])

    tries = Counter(change for _, change, _ in copies)
    found = Counter(
        change for number, (row, change, _) in enumerate(copies, len(photos)) if groups[row] == groups[number]
    )
    rows = [_share(change, found[change], tries[change]) for change in CHANGES]
    unflipped = found.total() - found["mirrored"], tries.total() - tries["mirrored"]
    rows += [_share("all but the mirrored", *unflipped), _share("all", found.total(), tries.total())]
    seconds = seconds_of(lambda: find_pairs(embeddings[: len(photos)], embedded.thumbnails[: len(photos)]))
    rows.append({"what": f"find_pairs among the {len(photos)} photos", "seconds": round(seconds, 3)})
    merged = _merged(photos, groups)
    rows += [{"what": f"merged: {' + '.join(f'{path.parent.name}/{path.name}' for path in pair)}"} for pair in merged]
    return {"rows": rows, "ratios": {"photos merged, pairs": len(merged)}}


def _write_copy(path, change, dice, copy):
    CHANGES[change](decode(read(path)), dice).save(copy, "JPEG", quality=QUALITY.get(change, 90))
    return copy


def _share(what, found, tried):
    return {"what": what, "found": found, "of": tried, "%": round(100 * found / tried, 1)}


def _merged(photos, groups):
    """Pairs of photos in one group."""
    members = {}
    for path, group in zip(photos, groups, strict=False):
        members.setdefault(group, []).append(path)
    return [pair for paths in members.values() for pair in combinations(paths, 2)]
