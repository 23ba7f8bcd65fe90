"""Faces: are all found, none where there is none, and who is named rightly, by how they are cut out and looked at.

Needs RETRAIN_TEST_DATA, with `faces/` inside; `flowers/` and `imagenet/` there are photos of other things.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from retrain.backbones import load_backbone, names_of
from retrain.dataset import walk
from retrain.faces import MARGIN, Face, crop, find_faces
from retrain.head import fit_head, normalize, search_C
from retrain.images import ImageError, decode, read
from retrain.options import QUALITIES
from retrain.parallel import ordered_map

# Who is on the test photos, from left to right.
TRUTH = {
    "alex_lacamoire1": ["alex_lacamoire"],
    "johnsnow_test1": ["kit_harington"],
    "kit_with_rose": ["rose_leslie", "kit_harington"],
    "obama1": ["obama"],
    "obama_and_biden": ["biden", "obama"],
}
CUTS = {
    f"margin {MARGIN}, eyes level (what --faces does)": {},
    f"margin {MARGIN}, as it is": {"level": False},
    "margin 0, eyes level": {"margin": 0.0},
    "margin 0.2, eyes level": {"margin": 0.2},
    "margin 0.3, eyes level": {"margin": 0.3},
    "margin 0.5, eyes level": {"margin": 0.5},
}


SHARES = 0.08, 0.06, 0.05, 0.04, 0.03, 0.02  # of the longer side of a photo, the side of a face on it
CANVAS = 1024, 683  # px


@dataclass(frozen=True)
class Known:
    """A face whose name is known."""

    image: object
    face: Face
    name: str


def measure(bench):
    data = Path(os.environ.get("RETRAIN_TEST_DATA", ""))
    if not (data / "faces" / "train").is_dir():
        raise click.ClickException("this needs RETRAIN_TEST_DATA, a folder with faces/train and faces/test.")
    train = [face for path in walk(data / "faces" / "train") for face in known_faces(path, [path.parent.name])]
    test = [face for path in walk(data / "faces" / "test") for face in known_faces(path, TRUTH[path.stem])]
    rows = [
        {"what": f"{quality}: {what}", **recognise(train, test, quality, cut)}
        for quality in ("fast", "good")
        for what, cut in CUTS.items()
    ]
    rows += [
        {
            "what": f"faces of {share:.0%} of the photo's longer side",
            "one a photo": paste(train + test, data, share, together=False),
            "16 on one": paste(train + test, data, share, together=True),
        }
        for share in SHARES
    ]
    others = [path for name in ("flowers", "imagenet") for path in walk(data / name) if path.suffix != ".tsv"]
    counts = list(filter(None, ordered_map(count_faces, others)))
    ratios = {
        "faces found where one is known": f"{len(train)} of 9 in faces/train, {len(test)} of 7 in faces/test",
        "faces found on photos of other things": f"{sum(counts)} on {len(counts)} of {len(others)} photos",
    }
    return {"rows": rows, "ratios": ratios}


def known_faces(path, names):
    """The faces on a photo with their names; none where there are more or fewer of them."""
    image = decode(read(path))
    faces = find_faces(image)
    return [Known(image, *pair) for pair in zip(faces, names, strict=True)] if len(faces) == len(names) else []


def count_faces(path):
    try:
        return len(find_faces(decode(read(path))))
    except ImageError:
        return 0


def paste(known, data, share, together):
    """How many faces are found that are pasted, with what is around them, into photos: one a photo, or all into one.

    share: of the photo's longer side, the side of a face.
    """
    side, photos = round(share * CANVAS[0]), sorted((data / "flowers" / "test" / "roses").iterdir())
    canvases = [decode(read(photo)).resize(CANVAS) for photo in photos[: 1 if together else len(known)]]
    found, middles = [], []
    for number, each in enumerate(known):
        cut = crop(each.image, each.face, margin=1.0, level=False).resize((3 * side, 3 * side))
        # On a grid of four by four, where there is room for three times a face of 8 %.
        middles.append(np.array([number % 4, number // 4]) * [256, 170] + [128, 85])
        canvases[0 if together else number].paste(cut, tuple((middles[-1] - 1.5 * side).astype(int).tolist()))
    for canvas in canvases:
        canvas.info = {}
        found.append([face.centre for face in find_faces(canvas)])
    right = [
        any(np.abs(centre - middle).max() < side / 2 for centre in found[0 if together else number])
        for number, middle in enumerate(middles)
    ]
    return f"{sum(right)} of {len(known)}"


def recognise(train, test, quality, cut):
    """How many are named rightly: each training face by a head of the others, test faces by one of all, and so on."""
    backbones = [load_backbone(name) for name in names_of(QUALITIES[quality])]

    def embed(known):
        crops = [crop(each.image, each.face, **cut) for each in known]
        return normalize([np.stack([one.embed(one.to_input(each)[None])[0] for each in crops]) for one in backbones])

    learned, asked = embed(train), embed(test)
    names, both = [each.name for each in train], train + test
    right = sum(guess == each.name for guess, each in zip(name_faces(learned, names, asked), test, strict=True))
    return {
        "left out of 9": leave_one_out(learned, names),
        "test": f"{right} of {len(test)}",
        "left out of 16": leave_one_out(np.concatenate([learned, asked]), [each.name for each in both]),
    }


def leave_one_out(embeddings, names):
    """How many faces are named rightly by the others; a person's only face cannot be, and does not count."""
    rows = [row for row, name in enumerate(names) if names.count(name) > 1]
    right = sum(
        name_faces(np.delete(embeddings, row, 0), names[:row] + names[row + 1 :], embeddings[row : row + 1])
        == [names[row]]
        for row in rows
    )
    return f"{right} of {len(rows)}"


def name_faces(embeddings, names, asked):
    """The names of faces by those of others, by the head that `train` fits."""
    classes = sorted(set(names))
    labels = np.array([classes.index(name) for name in names])
    groups = [b"%d" % row for row in range(len(labels))]
    head = fit_head(embeddings, labels, len(classes), search_C(embeddings, labels, groups, len(classes)).C)
    return [classes[number] for number in head.logits(asked).argmax(axis=1)]
