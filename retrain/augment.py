"""Augment: a picture as it might have been taken otherwise, so that a network learns the thing and not the photo."""

import math

import numpy as np
from PIL import Image, ImageEnhance

AREA = 0.35, 1.0  # share of the picture that is cut out
RATIO = 3 / 4, 4 / 3  # width over height of that
TILTED = 0.5  # share of the views that are turned and sheared
TURN, SHEAR = math.radians(15), 0.1  # at most
BRIGHTNESS, CONTRAST, COLOR = (0.7, 1.3), (0.8, 1.2), (0.7, 1.3)  # factors
ATTEMPTS = 10  # to find a cut that fits


def augment(image, size, random):
    """A random view of a decoded picture: cut (which zooms and shifts), turned, sheared, mirrored, lit otherwise.

    random: numpy Generator.  Returns uint8 (size, size, 3).  The cut is that of Szegedy et al. 2014, arXiv:1409.4842.
    """
    left, top, width, height = _cut(image, random)
    if random.random() < TILTED:
        image = _tilt(image, left + width / 2, top + height / 2, random)
    view = image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    for kind, factors in (
        (ImageEnhance.Brightness, BRIGHTNESS),
        (ImageEnhance.Contrast, CONTRAST),
        (ImageEnhance.Color, COLOR),
    ):
        view = kind(view).enhance(random.uniform(*factors))
    pixels = np.asarray(view)
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


def _cut(image, random):
    """Left, top, width and height, px."""
    for _ in range(ATTEMPTS):
        area = image.width * image.height * random.uniform(*AREA)
        ratio = math.exp(random.uniform(*map(math.log, RATIO)))
        width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if width <= image.width and height <= image.height:
            break
    else:
        width = height = min(image.size)
    return random.uniform(0, image.width - width), random.uniform(0, image.height - height), width, height


def _tilt(image, x, y, random):
    """The picture turned and sheared around a point."""
    turn, shear = random.uniform(-TURN, TURN), random.uniform(-SHEAR, SHEAR)
    a, b = math.cos(turn), math.sin(turn) + shear
    d, e = -math.sin(turn), math.cos(turn)
    back = (a, b, x - a * x - b * y, d, e, y - d * x - e * y)  # from a place in the view to one in the picture
    return image.transform(image.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
