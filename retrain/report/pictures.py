"""Small pictures inside a page."""

import base64
import io

from PIL import Image

from retrain.images import ImageError, decode, read

SIDE = 180  # px, the longer one of a thumbnail; as JPEG at most about 20 KB


def thumbnail_of(path):
    """A small picture of a file as a data URL; None where there is no picture."""
    try:
        return embed(shrink(decode(read(path))))
    except ImageError:
        return None


def shrink(image):
    """A copy of at most SIDE px."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return small


def embed(image):
    """A picture as the data URL of a JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
