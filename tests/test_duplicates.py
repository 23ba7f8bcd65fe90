import io
from hashlib import sha256

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from retrain import duplicates
from retrain.backbones import load_backbone
from retrain.duplicates import find_pairs, group_by, perceptual_hashes
from retrain.head import normalize
from retrain.images import THUMBNAIL_SIDE, decode, thumbnail
from retrain.options import QUALITIES

CHANGES = {
    "smaller": lambda image: image.resize((2 * image.width // 3, 2 * image.height // 3)),
    "cropped by 5 %": lambda image: image.crop((0, 0, round(0.95 * image.width), round(0.95 * image.height))),
    "cropped all around": lambda image: ImageOps.crop(image, round(0.05 * image.width)),
    "mirrored": ImageOps.mirror,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
}


def recompressed(image, quality=90):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return decode(stream.getvalue())


@pytest.fixture(scope="module")
def images(sample):
    return [Image.open(path) for path in sorted(sample.glob("*/*"))[::9]]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(QUALITIES["fast"])


def pairs_of(images, backbone):
    embeddings = normalize([np.array([backbone.embed(backbone.to_input(image)[None])[0] for image in images])])
    found = find_pairs(embeddings, np.array([thumbnail(image) for image in images]))
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def test_hashes_are_those_of_imagehash(images):
    for image in images:
        gray = Image.fromarray(thumbnail(image).reshape(THUMBNAIL_SIDE, -1))
        hashes = np.unpackbits(perceptual_hashes(thumbnail(image)[None])[0], axis=1).astype(bool)
        whole, mirrored = (imagehash.phash(view, hash_size=16).hash.ravel() for view in (gray, ImageOps.mirror(gray)))
        assert np.count_nonzero(hashes[0] != whole) <= 2  # imagehash resizes first, with rounding
        assert np.count_nonzero(hashes[-1] != mirrored) <= 2


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copy_is_a_pair_with_its_source(images, backbone, change):
    copies = [recompressed(CHANGES[change](image)) for image in images]
    count = len(images)
    assert pairs_of(images + copies, backbone) >= {(row, row + count) for row in range(count)}


def test_different_pictures_are_no_pairs(images, backbone):
    assert not pairs_of(images, backbone)


def test_pairs_across_blocks_are_found(images, backbone, monkeypatch):
    whole = pairs_of([*images, *images], backbone)
    monkeypatch.setattr("retrain.duplicates.BLOCK", 5)
    assert pairs_of([*images, *images], backbone) == whole != set()


def test_one_picture_has_no_pairs(images, backbone):
    assert not pairs_of(images[:1], backbone)


def test_no_picture_has_no_pairs():
    found = find_pairs(np.empty((0, 3), np.float32), np.empty((0, THUMBNAIL_SIDE**2), np.uint8))
    assert [len(column) for column in found] == [0, 0, 0, 0]


def moved(size, right, down, elsewhere=0):
    """The same blobs, seen from a bit further right and below, or with half of them elsewhere."""
    random, canvas = np.random.default_rng(0), Image.new("RGB", (300, 300), "gray")
    pen = ImageDraw.Draw(canvas)
    for number, (x, y, radius) in enumerate(random.integers((20, 20, 15), (280, 280, 60), (20, 3))):
        x += elsewhere if number >= 10 else 0
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), tuple(random.integers(0, 255, 3).tolist()))
    return canvas.crop((right, down, right + size, down + size))


def test_crop_fits_its_source_and_another_shot_does_not():
    shots = [moved(290, 0, 0), moved(275, 9, 3), moved(290, 4, 4, elsewhere=30)]
    thumbnails = np.array([thumbnail(shot) for shot in shots])
    crop, shot = duplicates._fit(thumbnails, np.array([0, 0]), np.array([1, 2]))
    assert crop >= duplicates.FITTING > shot


def test_groups_join_what_is_related_and_what_is_identical():
    digests = [sha256(name).digest() for name in (b"a", b"b", b"c", b"d", b"a")]
    groups = group_by(digests, ([0], [1]), ([1], [2]))
    assert groups[0] == groups[1] == groups[2] == groups[4] == max(digests[:3])
    assert groups[3] == digests[3]


def test_a_picture_that_comes_in_never_lowers_a_groups_name():
    digests = [bytes([number]) * 32 for number in (5, 7, 3, 9)]
    for joined in range(1, 4):
        relation = list(range(joined)), list(range(1, joined + 1))
        assert group_by(digests, relation)[0] >= group_by(digests[:joined], (relation[0][:-1], relation[1][:-1]))[0]


@pytest.mark.real
def test_copies_of_flower_photos_are_found_and_others_are_not(real_data, backbone):
    files = sorted((real_data / "flowers").glob("*/*/*"))[::10]
    photos = [decode(path.read_bytes()) for path in files]
    changes = [*CHANGES.values(), lambda image: image]
    copies = [recompressed(changes[row % len(changes)](photo), quality=50) for row, photo in enumerate(photos)]
    found = pairs_of(photos + copies, backbone)
    wanted = {(row, row + len(photos)) for row in range(len(photos))}
    assert len(wanted & found) >= 0.97 * len(wanted)
    assert not found - wanted


@pytest.mark.real
def test_next_shot_of_a_burst_is_no_copy(real_data, backbone):
    names = "test/tulips/17199499591_67b64b21ed_m.jpg", "train/tulips/17199496791_3caaf5e278_m.jpg"
    assert not pairs_of([decode((real_data / "flowers" / name).read_bytes()) for name in names], backbone)


@pytest.mark.real
def test_black_and_white_copy_is_found(real_data, backbone):
    names = "17161833794_e1d92259d2_m.jpg", "18304194360_2a4a0be631_m.jpg"
    photos = [decode((real_data / "flowers/train/dandelion" / name).read_bytes()) for name in names]
    assert pairs_of(photos, backbone) == {(0, 1)}
