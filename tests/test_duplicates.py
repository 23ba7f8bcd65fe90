import io
from hashlib import sha256

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from retrain.backbones import load_backbone
from retrain.duplicates import find_pairs, group_by, perceptual_hashes
from retrain.head import normalize
from retrain.images import THUMBNAIL_SIDE, decode, thumbnail
from retrain.options import QUALITIES

CHANGES = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
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
    assert not {pair for pair in found - wanted if (pair[0], pair[1] - len(photos)) not in found} - wanted
