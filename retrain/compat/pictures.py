"""The pictures of retrain.py: its split by the hash of the path, its bottleneck files, its distortions."""

import logging
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from retrain.backbones import Backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import FEW_IMAGES, LEGACY_IMAGES, TRAINING, Dataset, class_folders, find_dataset, legacy_part
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.images import ImageError, decode, read
from retrain.parallel import ordered_map

SUFFIXES = {".JPEG", ".JPG", ".jpeg", ".jpg", ".png"}  # of the files that the original took for pictures
STORE = "bottlenecks.sqlite"
TOLD_EVERY = 100  # bottleneck files

log = logging.getLogger("retrain")


@dataclass
class Pictures:
    """Pictures, row by row."""

    dataset: Dataset
    backbone: Backbone
    parts: np.ndarray  # str (n,)
    embeddings: np.ndarray  # float32 (n, D), as the network gives them
    digests: list[bytes]  # sha256 of each file
    failed: int  # files that the original would have died of

    @cached_property
    def labels(self):
        return np.array(self.dataset.labels)

    def rows(self, part):
        return np.flatnonzero(self.parts == part)

    @cached_property
    def length(self):
        """Of an embedding, in the mean."""
        return float(np.mean(np.linalg.norm(self.embeddings, axis=1)))

    @cached_property
    def features(self):
        """What the layer sees of each picture, float32 (n, D)."""
        return self.to_features(self.embeddings)

    def to_features(self, embeddings):
        """Embeddings of one length: our models know no other, and with this one the old learning rates hold."""
        return np.float32(self.length) * normalize([embeddings])


def find_pictures(image_dir, backbone, bottleneck_dir, validation_percentage, testing_percentage):
    """Pictures of the folders of image_dir.  Raises RetrainError where there are no two classes to learn."""
    dataset = find_dataset(image_dir)
    for name in class_folders(image_dir):
        if dataset.parts is None and name not in dataset.classes:
            log.warning("No files found")
    with Store(Path(bottleneck_dir) / STORE) as store:
        embedded = embed_files(dataset.paths, [backbone], store)
    for path, error in embedded.skipped:
        log.warning("skipped %s: %s", path, error)
    dataset = dataset.take(embedded.kept)
    dataset = dataset.take_classes(np.flatnonzero(dataset.counts()).tolist())
    _require_classes(dataset, image_dir)
    parts = _parts(dataset, image_dir, validation_percentage / 100, testing_percentage / 100)
    failed = sum(path.suffix in SUFFIXES for path, _ in embedded.skipped)
    return Pictures(dataset, backbone, parts, embedded.embeddings[0], embedded.digests, failed)


def _require_classes(dataset, image_dir):
    hint = "Make one folder a class, such as photos/cat and photos/dog."
    if not dataset.classes:
        raise RetrainError(f"No valid folders of images found at {image_dir}", hint)
    if len(dataset.classes) == 1:
        raise RetrainError(
            f"Only one valid folder of images found at {image_dir} - multiple classes are needed for classification.",
            hint,
        )
    for name, count in zip(dataset.classes, dataset.counts(), strict=True):
        if count < FEW_IMAGES:
            log.warning("WARNING: Folder has less than 20 images, which may cause issues.")
        elif count > LEGACY_IMAGES:
            log.warning(
                "WARNING: Folder %s has more than %s images. Some images will never be selected.", name, LEGACY_IMAGES
            )


def _parts(dataset, image_dir, validation_share, test_share):
    """Part of each picture, by its path as typed.  Raises RetrainError where a class has nothing to learn from."""
    if dataset.parts is not None:
        parts = np.array(dataset.parts)
    else:
        # Path would drop a leading ./ of what was typed, and with it the hash would be another.
        typed = [os.path.join(image_dir, path.relative_to(image_dir)) for path in dataset.paths]  # noqa: PTH118
        parts = np.array([legacy_part(path, test_share, validation_share) for path in typed])
    learned = dataset.take(np.flatnonzero(parts == TRAINING)).counts()
    if not learned.all():
        names = ", ".join(name for name, count in zip(dataset.classes, learned, strict=True) if not count)
        raise RetrainError(
            f"Label {names} has no images in the category training.",
            "The split is by the hash of each path: add pictures, or lower the percentages.",
        )
    return parts


def write_bottlenecks(folder, pictures):
    """Write `<folder>/<class>/<file>_<network>.txt` of each picture, comma-joined floats, as the original left them.

    They are for whoever reads them: training knows a picture by its content, these files by their names alone.  Those
    that hold something else are written anew.
    """
    suffix = re.sub(r"://|[/:\\]", "~", f"_{pictures.backbone.spec.name}.txt")
    made = 0
    for row, path in enumerate(pictures.dataset.paths):
        file = Path(folder) / pictures.dataset.classes[pictures.dataset.labels[row]] / f"{path.name}{suffix}"
        try:
            if _holds(file, pictures.embeddings[row]):
                continue
            log.debug("Creating bottleneck at %s", file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(",".join(map(str, pictures.embeddings[row])))
        except OSError as error:  # such as a name that is too long with that suffix
            log.warning("%s cannot be written (%s).", file, error.strerror)
            continue
        made += 1
        if made % TOLD_EVERY == 0:
            log.info("%d bottleneck files created.", made)


def _holds(file, embedding):
    try:
        values = np.array(file.read_text().split(","), np.float32)
    except FileNotFoundError:
        return False
    except ValueError:
        log.warning("Invalid float found, recreating bottleneck")
        return False
    return np.array_equal(values, embedding)


@dataclass(frozen=True)
class Distortion:
    """How pictures are changed at random: mirrored, and cut, enlarged and lit otherwise by up to so many percent."""

    flip_left_right: bool
    random_crop: int
    random_scale: int
    random_brightness: int

    def __bool__(self):
        return self.flip_left_right or any((self.random_crop, self.random_scale, self.random_brightness))

    def draw(self, random):
        """What happens to one picture: (mirrored, enlargement, place across, place down, brightness)."""
        return (
            self.flip_left_right and random.random() < 0.5,
            (1 + self.random_crop / 100) * random.uniform(1, 1 + self.random_scale / 100),
            random.random(),
            random.random(),
            random.uniform(1 - self.random_brightness / 100, 1 + self.random_brightness / 100),
        )


def view(image, spec, drawn):
    """Network input uint8 (size, size, 3) of a decoded picture, distorted: a part of what the network would see."""
    mirrored, enlargement, across, down, brightness = drawn
    whole = min(image.size) * spec.crop
    side = whole / enlargement
    left = (image.width - whole) / 2 + across * (whole - side)
    top = (image.height - whole) / 2 + down * (whole - side)
    size = (spec.image_size, spec.image_size)
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC, (left, top, left + side, top + side)), np.float32)
    pixels = np.clip(np.round(pixels * np.float32(brightness)), 0, 255).astype(np.uint8)
    return pixels[:, ::-1] if mirrored else pixels


def embed_distorted(pictures, rows, distortion, random):
    """Embeddings float32 (n, D) of new views of these pictures; a picture that is gone meanwhile enters as it was."""
    drawn = [distortion.draw(random) for _ in rows]
    return np.stack(list(ordered_map(lambda pair: _embed_view(pictures, *pair), zip(rows, drawn, strict=True))))


def _embed_view(pictures, row, drawn):
    backbone = pictures.backbone
    try:
        image = decode(read(pictures.dataset.paths[row]))
    except ImageError:
        return pictures.embeddings[row]
    return backbone.embed(view(image, backbone.spec, drawn)[None])[0]
