"""Draw the faces found on a picture, and who they are, on a copy of it."""

import os
from contextlib import suppress
from pathlib import Path

from PIL import ImageDraw, ImageFont

from retrain.errors import writing_to
from retrain.images import ImageError, decode, read
from retrain.recipes.explaining import QUALITY, require_apart
from retrain.recipes.names import Names, safe_name

KNOWN, UNKNOWN = "#00c853", "#ff9100"  # colours
FONTS = "DejaVuSans.ttf", "Arial.ttf"  # which know more letters than Pillow's own
LETTER = 1 / 28  # of the picture's shorter side; no smaller than LEAST_LETTER
LEAST_LETTER = 12  # px


class Boxes:
    """Writes a JPEG a picture into a folder, never overwriting."""

    def __init__(self, out, paths):
        """paths: of the pictures.  Raises RetrainError where the drawings would be among them the next time."""
        self.out, self._names = Path(out), Names()
        require_apart(self.out, paths)
        with writing_to(self.out):
            self.out.mkdir(parents=True, exist_ok=True)

    def draw(self, guess):
        """Path of the drawing of a PhotoGuess; None where there is no face, or the file is gone."""
        if not guess.faces:
            return None
        try:
            image = decode(read(guess.path))
        except ImageError:
            return None
        draw_faces(image, guess.faces)
        path = self._free_path(Path(guess.path).stem)
        with writing_to(self.out), open(path, "xb") as file:
            image.save(file, "JPEG", quality=QUALITY)
        return str(path)

    def _free_path(self, stem):
        safe = safe_name(stem.encode("utf-8", "replace").decode()) or "picture"
        while True:
            path = self.out / self._names.give(safe, ".jpg")
            if not os.path.lexists(path):
                return path


def draw_faces(image, guesses):
    """Draw a box and a name for each FaceGuess on a decoded picture, in place."""
    scale = image.width / image.info["original_size"][0]
    letter = max(LEAST_LETTER, min(image.size) * LETTER)
    font, draw, width = _font(letter), ImageDraw.Draw(image), max(2, round(letter / 8))
    for guess in guesses:
        left, top, right, bottom = (scale * place for place in _corners(guess.box))
        colour = UNKNOWN if guess.unknown else KNOWN
        text = f"{'unknown' if guess.unknown else guess.label} {guess.confidence:.2f}"
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        place = draw.textbbox((left, bottom), text, font)
        beside = (min(left, image.width - (place[2] - place[0])), min(bottom, image.height - (place[3] - bottom)))
        draw.rectangle(draw.textbbox(beside, text, font), fill=colour)
        draw.text(beside, text, "black", font)


def _corners(box):
    left, top, width, height = box
    return left, top, left + width, top + height


def _font(size):
    for name in FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)
