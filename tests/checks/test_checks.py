from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

import retrain.checks
from retrain.checks import CHECKS, QUARANTINE, REVIEW, load_check
from retrain.checks.evidence import Evidence, measure
from retrain.images import THUMBNAIL_SIDE, ImageError

CLASSES = ["daisy", "rose"]


def evidence(tmp_path, count=12):
    """Unlike, sound pictures of two classes that are easy to tell apart, and one file that is none."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    embeddings = generator.normal(size=(count, 16)).astype(np.float32)
    embeddings[:, 0] += 8 * labels - 4
    paths = [tmp_path / f"{row}.jpg" for row in range(count)]
    for path in paths:
        path.write_bytes(b"x")
    return Evidence(
        paths=paths,
        labels=labels,
        classes=CLASSES,
        tested=np.zeros(count, bool),
        digests=[b"%032d" % row for row in range(count)],
        embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        thumbnails=generator.integers(0, 256, (count, THUMBNAIL_SIDE**2), np.uint8),
        measures=np.tile(np.array([320, 240, 240, 60, 5000], np.float32), (count, 1)),
        refused=[(tmp_path / "notes.txt", ImageError("not_an_image"))],
    )


def spoil(seen, check):
    """Make rows of the evidence such that this check must find them.  Returns their paths."""
    if check == "unreadable":
        return [seen.refused[0][0]]
    if check in ("identical", "near_duplicate", "two_labels"):
        copy = 1 if check == "two_labels" else 2
        seen.embeddings[copy], seen.thumbnails[copy] = seen.embeddings[0], seen.thumbnails[0]
        if check == "identical":
            seen.digests[copy] = seen.digests[0]
        return [seen.paths[0], seen.paths[copy]]
    if check == "wrong_label":
        seen.labels[0] = 1
    else:
        seen.measures[0] = {
            "blank": (320, 240, 128, 2, 0),
            "tiny": (20, 240, 240, 60, 5000),
            "dark": (320, 240, 40, 10, 5000),
            "blurred": (320, 240, 240, 60, 20),
            "odd_shape": (1000, 200, 240, 60, 5000),
        }[check]
    return [seen.paths[0]]


@pytest.mark.parametrize("check", CHECKS)
def test_check_finds_what_it_is_for_and_only_that(check, tmp_path):
    seen = evidence(tmp_path)
    expected = spoil(seen, check)
    (suspect,) = load_check(check)(seen)
    assert suspect.paths == expected
    assert 0 <= suspect.score <= 1
    assert suspect.reason
    assert suspect.keep is None or suspect.keep in expected


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "unreadable"])
def test_check_finds_nothing_among_sound_pictures(check, tmp_path):
    assert list(load_check(check)(evidence(tmp_path))) == []


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "unreadable"])
def test_check_of_one_picture_comes_through(check, tmp_path):
    assert list(load_check(check)(evidence(tmp_path, 1))) == []


def test_every_file_of_a_check_is_registered():
    files = {path.stem for path in Path(retrain.checks.__file__).parent.glob("[!_]*.py")}
    assert files == CHECKS.keys() | {"evidence"}
    assert all(find_spec(f"retrain.checks.{name}") for name in CHECKS)


def test_action_is_quarantine_or_review():
    assert {check.action for check in CHECKS.values()} == {QUARANTINE, REVIEW}


def test_identical_in_two_classes_is_for_review(tmp_path):
    seen = evidence(tmp_path)
    seen.digests[1] = seen.digests[0]
    (suspect,) = load_check("identical")(seen)
    assert (suspect.keep, suspect.sure) == (None, False)


def test_blank_pictures_are_no_copies_of_one_another(tmp_path):
    seen = evidence(tmp_path)
    spoil(seen, "near_duplicate")
    seen.measures[:3, 3] = 0
    assert list(load_check("near_duplicate")(seen)) == []


def test_tested_copy_is_kept_then_the_largest_then_the_shortest_name(tmp_path):
    seen = evidence(tmp_path)
    assert seen.best([10, 2]) == 2
    seen.paths[10].write_bytes(b"more")
    assert seen.best([10, 2]) == 10
    seen.tested[2] = True
    assert seen.best([10, 2]) == 2


def test_blur_and_darkness_are_measured(sample):
    with Image.open(sample / "tree" / "tree-000.jpg") as image:
        sharp, blurred = measure(image), measure(image.filter(ImageFilter.GaussianBlur(6)))
        dark = measure(image.point(lambda value: value / 5))
    assert blurred[4] < sharp[4] / 10
    assert dark[2] == pytest.approx(sharp[2] / 5, abs=2)


def test_sharp_part_before_a_blurred_background_is_sharp():
    image = Image.new("RGB", (256, 256), "green")
    image.paste(Image.effect_noise((40, 40), 80).convert("RGB"), (108, 108))
    assert measure(image)[4] > 1000


def test_colours_of_one_brightness_are_seen():
    image = Image.new("RGB", (128, 128), (255, 0, 0))
    image.paste((0, 130, 0), (32, 32, 96, 96))
    assert np.ptp(np.asarray(image.convert("L"))) <= 1
    light, contrast, sharpness = measure(image)[2:]
    assert light == 255
    assert contrast > 50
    assert sharpness > 1000


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 255))
def test_any_size_is_measured(width, height, brightness):
    measures = measure(Image.new("RGB", (width, height), (brightness,) * 3))
    assert measures.tolist() == pytest.approx([width, height, brightness, 0, 0], abs=0.01)
