"""Photos of people for tests: a disc is a face, its colour tells whose; and a detector that finds such discs."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

import retrain.face_classifier
import retrain.faces
from retrain.faces import Face

COLOURS = {"anna": (200, 40, 40), "ben": (40, 60, 200), "cleo": (30, 160, 60)}
SIZE = 240, 160  # px


def draw_people(path, *names, seed=0):
    """A photo of these people side by side, none like another photo of them."""
    noise = np.random.default_rng([seed, *"".join(names).encode()])
    # A wall of gray stones behind them.
    image = (
        Image.fromarray(noise.integers(60, 200, (4, 6), np.uint8)).resize(SIZE, Image.Resampling.NEAREST).convert("RGB")
    )
    pen, width = ImageDraw.Draw(image), SIZE[0] / max(1, len(names))
    for number, name in enumerate(names):
        x, y, radius = (number + 0.5) * width, SIZE[1] / 2 + noise.integers(-8, 8), 28 + noise.integers(0, 8)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[name])
        for eye in (-0.4, 0.4):
            pen.ellipse((x + eye * radius - 4, y - 12, x + eye * radius + 4, y - 4), fill="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)
    return path


def find_discs(image):
    """What `find_faces` would find, were discs faces."""
    there = (np.ptp(np.asarray(image, np.int16), axis=2) > 60).any(axis=0)
    edges = np.flatnonzero(np.diff(np.pad(there.astype(int), 1)))
    scale = image.info["original_size"][0] / image.width
    faces = []
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        if right - left < 20:
            continue
        x, side = scale * (left + right) / 2, scale * float(right - left)
        y = scale * image.height / 2
        eyes = (x - side / 5, y), (x + side / 5, y)
        faces.append(Face((x, y), side, eyes, 0.9, image.info["original_size"]))
    return faces


def use_discs(patch):
    """Have discs taken for faces.  patch: pytest.MonkeyPatch."""
    patch.setattr(retrain.faces, "find_faces", find_discs)
    for module in (retrain.faces, retrain.face_classifier, retrain.recipes.training):
        if hasattr(module, "find_faces"):
            patch.setattr(module, "find_faces", find_discs)
        patch.setattr(module, "detector_file", lambda: b"")


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """Photos in a folder a person, eight each; in anna's also one of two people and one of nobody.  Read only."""
    folder = tmp_path_factory.mktemp("people")
    for name in COLOURS:
        for number in range(8):
            draw_people(folder / name / f"{number}.jpg", name, seed=number)
    draw_people(folder / "anna" / "with-ben.jpg", "anna", "ben")
    draw_people(folder / "anna" / "nobody.jpg")
    return folder
