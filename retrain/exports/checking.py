"""Is what was written the same as what we have?  Each export is run on some pictures before anybody gets it."""

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from retrain.classifier import Classifier
from retrain.errors import RetrainError
from retrain.exports.refitting import spread
from retrain.head import normalize
from retrain.images import ImageError, decode, read, to_input
from retrain.options import SampleOptions
from retrain.recipes.sampling import draw_sample

PICTURES, AT_ONCE = 16, 4
BOUND = 1e-3  # of the largest difference of a probability, where both take the same pixels in float32
LOOSE_BOUND = 0.05  # of its mean over the pictures, where precision or decoder is another


def sample(paths):
    """At most PICTURES of these, spread evenly, as upright JPEGs; none where none can be read."""
    return list(filter(None, map(_as_jpeg, spread(paths, PICTURES))))


def draw():
    """PICTURES drawn ones, as JPEGs."""
    with tempfile.TemporaryDirectory() as folder:
        draw_sample(Path(folder) / "drawn", SampleOptions(per_class=4))
        return [_as_jpeg(path) for path in spread(sorted(Path(folder).rglob("*.jpg")), PICTURES)]


def squares(jpegs, described):
    """What an export that takes pixels is given: float32 (N, S, S, 3) of 0-255."""
    side, crop = described["image_size"], described["crop"]
    return np.stack([to_input(decode(each), side, crop) for each in jpegs]).astype(np.float32)


def expected(model, pixels):
    """Probabilities (N, C) by our own networks and Pillow's resizing, of squares; in the precision of the Model."""
    parts = [
        np.concatenate([backbone.embed(_resized(each, backbone.spec)[None]) for each in pixels])
        for backbone in model.backbones
    ]
    return Classifier(model).probabilities_of(normalize(parts))


def guessed(model, jpegs):
    """Probabilities (N, C) as `retrain guess` has them."""
    classifier = Classifier(model)
    return classifier.probabilities_of(np.concatenate([classifier.embed(decode(each)) for each in jpegs]))


def run_on(run, entries):
    """Probabilities (N, C) by an export's function, a few at once: networks of Keras take 120 MB a picture."""
    return np.concatenate([run(entries[start : start + AT_ONCE]) for start in range(0, len(entries), AT_ONCE)])


def difference(found, ours):
    """How far probabilities (N, C) are from ours: of each picture the largest difference of a label."""
    if found.shape != ours.shape or not np.isfinite(found).all():
        raise RetrainError("what was written does not run as it should: it gives no probabilities.", "Report this.")
    each = np.abs(found - ours).max(axis=1)
    agreed = int((found.argmax(axis=1) == ours.argmax(axis=1)).sum())
    told = {"max": each.max(), "mean": each.mean(), "median": np.median(each)}
    return {key: round(float(value), 7) for key, value in told.items()} | {"agreed": agreed, "pictures": len(each)}


def require_near(name, told, key, bound):
    """Raise RetrainError where a difference is over its bound."""
    if told[key] > bound:
        raise RetrainError(
            f"{name} is not written: its probabilities differ from ours by {told[key]:.4f} ({key}); {bound:g} may be.",
            "Export another format.",
        )


def _resized(pixels, spec):
    """(image_size, image_size, 3) of pixels float32 (S, S, 3): whole numbers where the network takes these."""
    size = spec.image_size, spec.image_size
    if pixels.shape[:2] != size:
        channels = [
            Image.fromarray(channel).resize(size, Image.Resampling.BICUBIC) for channel in pixels.transpose(2, 0, 1)
        ]
        pixels = np.stack([np.asarray(channel) for channel in channels], axis=-1)
    return pixels if spec.precision == "float32" else np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _as_jpeg(path):
    """Bytes of a picture that every decoder reads alike; None where it cannot be read."""
    try:
        image = decode(read(path))
    except ImageError:
        return None
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()
