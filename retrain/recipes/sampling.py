"""Draw a small labelled picture set to try things on: a folder a class, no download."""

import colorsys
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from retrain.dataset import require_new_folder
from retrain.errors import writing_to
from retrain.options import SampleOptions

CLUTTER = 8  # shapes without meaning behind each subject, at most
NOISE = 0.2  # share of random pixels mixed in, at most
ROUND = 20  # corners of a circle

SUBJECTS: dict[str, Callable] = {}


def draw_sample(out, options=None):
    """Draw the set into `out/<label>/`, one JPEG a picture.  Returns the paths.

    The same seed draws the same pictures.  Raises RetrainError where `out` holds something already.
    """
    out, options = Path(out), options or SampleOptions()
    with writing_to(out):
        require_new_folder(out)
        return [_save(out, label, number, options) for label in SUBJECTS for number in range(options.per_class)]


def draw(label, random, size):
    """One picture of a subject: mode RGB, size × size px; its colours, place, size, tilt and background are random.

    label: a key of SUBJECTS.  random: random.Random.
    """
    return draw_on(draw_background(random, size), label, random)[0]


def draw_on(background, label, random):
    """(picture, box) of a subject on a square background, which is drawn on; see `draw`.

    box: (left, top, right, bottom) of the square around the subject, in px.
    """
    for _ in range(random.randint(0, CLUTTER)):
        _clutter(_Pen(background, random, random.uniform(0.04, 0.2)), random)
    pen = _Pen(background, random, random.uniform(0.1, 0.35))
    SUBJECTS[label](pen, random)
    image = background.filter(ImageFilter.BoxBlur(random.uniform(0, 1.5) * background.width / 256))
    noise = Image.frombytes("RGB", image.size, random.randbytes(3 * image.width * image.height))
    box = pen.x - pen.scale, pen.y - pen.scale, pen.x + pen.scale, pen.y + pen.scale
    return Image.blend(image, noise, random.uniform(0, NOISE)), box


def _save(out, label, number, options):
    # A picture depends on its own number alone, so a larger set begins with the smaller one.
    image = draw(label, Random(f"{options.seed}/{label}/{number}"), options.size)
    path = out / label / f"{label}-{number:03d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=90)
    return path


class _Pen:
    """Draws in a subject's own coordinates: x and y from -1 to 1, y downwards, somewhere on the picture and tilted."""

    def __init__(self, image, random, scale):
        """scale: half the subject's size as a share of the picture's."""
        self.canvas, self.scale = ImageDraw.Draw(image), scale * image.width
        self.x, self.y = (random.uniform(scale, 1 - scale) * image.width for _ in range(2))
        tilt = random.gauss(0, math.radians(10))
        self.cos, self.sin = math.cos(tilt) * self.scale, math.sin(tilt) * self.scale

    def polygon(self, points, color):
        at = [(self.x + x * self.cos - y * self.sin, self.y + x * self.sin + y * self.cos) for x, y in points]
        self.canvas.polygon(at, fill=color)

    def box(self, left, top, right, bottom, color):
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color)

    def ellipse(self, x, y, width, height, color):
        """x, y: its centre."""
        corners = [math.tau * corner / ROUND for corner in range(ROUND)]
        self.polygon([(x + width / 2 * math.cos(a), y + height / 2 * math.sin(a)) for a in corners], color)


def _color(random):
    shade = colorsys.hsv_to_rgb(random.random(), random.uniform(0.1, 0.9), random.uniform(0.25, 1))
    return tuple(round(255 * part) for part in shade)


def draw_background(random, size):
    gradient = Image.linear_gradient("L").rotate(random.choice((0, 90, 180, 270))).resize((size, size))
    above, below = (Image.new("RGB", (size, size), _color(random)) for _ in range(2))
    return Image.composite(above, below, gradient)


def _clutter(pen, random):
    corners = [(random.uniform(-1, 1), random.uniform(-1, 1)) for _ in range(random.randint(3, 5))]
    pen.polygon(corners, _color(random))


def _subject(draw_parts):
    SUBJECTS[draw_parts.__name__.removeprefix("_")] = draw_parts
    return draw_parts


@_subject
def _boat(pen, random):
    mast, hull = random.uniform(-0.2, 0.2), random.uniform(0.25, 0.45)
    pen.box(mast - 0.04, -1, mast + 0.04, 0.4, _color(random))
    pen.polygon([(mast + 0.08, -0.95), (mast + 0.08, 0.25), (random.uniform(0.6, 0.9), 0.25)], sail := _color(random))
    if random.random() < 0.6:
        pen.polygon([(mast - 0.08, -0.8), (mast - 0.08, 0.25), (random.uniform(-0.8, -0.5), 0.25)], sail)
    pen.polygon([(-1, 0.4), (1, 0.4), (0.7, 0.4 + hull), (-0.7, 0.4 + hull)], _color(random))


@_subject
def _fish(pen, random):
    way, height = random.choice((-1, 1)), random.uniform(0.55, 0.95)
    pen.polygon([(-0.45 * way, 0), (-way, -0.45), (-0.85 * way, 0), (-way, 0.45)], fin := _color(random))
    pen.polygon([(0.2 * way, -0.2), (-0.3 * way, -height / 2 - 0.2), (-0.3 * way, 0)], fin)
    pen.ellipse(0.1 * way, 0, 1.4, height, _color(random))
    pen.ellipse(0.5 * way, -0.1, 0.2, 0.2, "white")
    pen.ellipse(0.53 * way, -0.1, 0.1, 0.1, "black")


@_subject
def _house(pen, random):
    wide, eaves = random.uniform(0.6, 0.9), random.uniform(-0.3, 0.1)
    pen.box(-wide, eaves, wide, 1, _color(random))
    pen.polygon([(-wide - 0.1, eaves), (0, -1), (wide + 0.1, eaves)], _color(random))
    door = random.uniform(-0.4, 0.2)
    pen.box(door, 0.5, door + 0.25, 1, _color(random))
    glass = _color(random)
    for x in (-0.7 * wide, 0.4 * wide):
        pen.box(x, eaves + 0.12, x + 0.25, eaves + 0.35, glass)


@_subject
def _sun(pen, random):
    color, rays, middle = _color(random), random.randint(7, 14), random.uniform(0.4, 0.65)
    for ray in range(rays):
        angle, half = math.tau * ray / rays, 0.6 / rays
        foot = [(middle * math.cos(angle + side), middle * math.sin(angle + side)) for side in (-half * 2, half * 2)]
        pen.polygon([*foot, (math.cos(angle), math.sin(angle))], color)
    pen.ellipse(0, 0, 1.8 * middle, 1.8 * middle, color)


@_subject
def _tree(pen, random):
    pen.box(-0.1, 0, 0.1, 1, _color(random))
    crown = _color(random)
    if random.random() < 0.5:
        for top, wide in ((-1, 0.45), (-0.65, 0.6), (-0.3, 0.75)):
            pen.polygon([(0, top), (wide, top + 0.75), (-wide, top + 0.75)], crown)
    else:
        for x, y in ((0, -0.6), (-0.4, -0.2), (0.4, -0.2), (0, -0.1)):
            pen.ellipse(x, y, *(random.uniform(0.7, 0.95) for _ in range(2)), crown)
