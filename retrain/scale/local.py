"""What becomes of one file, and how this machine does it with many."""

import hashlib
from dataclasses import dataclass
from functools import partial

import numpy as np

from retrain.images import ImageError, decode
from retrain.parallel import ordered_map


@dataclass
class Row:
    """One file: what its bytes are, and what each backbone makes of the picture, or why there is none."""

    name: str
    digest: bytes = b""  # sha256; none where it could not be read
    size: int = 0  # bytes
    parts: list[np.ndarray] | None = None  # of each backbone float32 (D,), not normalized
    error: ImageError | None = None


def embed_locally(names, backbones, reader):
    """Yield a Row a file, in order.  reader: as `retrain.scale.places.Reader`."""
    return ordered_map(partial(_embed, backbones=backbones, reader=reader), names)


def _embed(name, backbones, reader):
    row, image = look(name, reader)
    if image:
        row.parts = [backbone.embed(backbone.to_input(image)[None])[0] for backbone in backbones]
    return row


def look(name, reader):
    """Row of a file, without its parts, and the decoded picture; None where there is none."""
    row = Row(name)
    try:
        data = reader.read(name)
        row.digest, row.size = hashlib.sha256(data).digest(), len(data)
        return row, decode(data)
    except ImageError as error:
        row.error = error
        return row, None
