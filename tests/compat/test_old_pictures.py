"""The pictures of retrain.py: the split of old, text files of embeddings, distortions."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from retrain.backbones import load_backbone
from retrain.compat.pictures import Distortion, embed_distorted, find_pictures, view, write_bottlenecks
from retrain.dataset import TRAINING, legacy_labels, legacy_part
from retrain.errors import RetrainError
from retrain.images import decode, read


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet-lite0")


@pytest.fixture
def found(data, tmp_path, backbone):
    return find_pictures(str(data), backbone, tmp_path / "bottlenecks", 10, 0)


@pytest.mark.parametrize("typed", ["photos", "./photos", "photos/", "../here/photos"])
def test_split_goes_by_the_path_as_typed(data, tmp_path, backbone, monkeypatch, typed):
    (tmp_path / "here").mkdir()
    data.rename(tmp_path / "here" / "photos")
    monkeypatch.chdir(tmp_path / "here")
    found = find_pictures(typed, backbone, tmp_path / "bottlenecks", 25, 30)
    joined = [f"{typed.rstrip('/')}/{path.parent.name}/{path.name}" for path in found.dataset.paths]
    assert found.parts.tolist() == [legacy_part(path, 0.3, 0.25) for path in joined]
    assert found.rows(TRAINING).size


def test_own_folders_among_the_classes_are_left_out_with_one_word(data, trained, tmp_path, backbone, caplog):
    shutil.copytree(trained / "model", data / "model")
    found = find_pictures(str(data), backbone, tmp_path / "bottlenecks", 10, 0)
    assert "model" not in found.dataset.classes
    assert caplog.text.count("was written by retrain") == 1


def test_class_without_a_picture_to_learn_is_a_clear_error(data, tmp_path, backbone, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (data / "fish").iterdir():
        path.rename(path.with_name(f"x_nohash_{path.name}"))  # all have one hash
    with pytest.raises(RetrainError, match=r"Label .* has no images in the category training"):
        for share in range(100):  # some share puts that hash into the test
            find_pictures("data", backbone, tmp_path / "bottlenecks", 0, share)


def test_labels_that_are_the_same_of_old_are_numbered():
    assert legacy_labels(["darth_vader", "Elsa"]) == ["darth vader", "elsa"]
    assert legacy_labels(["C++", "C#", "Java"]) == ["c 0", "c 1", "java 2"]
    assert legacy_labels(["日本", "fish"]) == ["0", "fish 1"]


def test_bottleneck_files_hold_what_the_network_gives(found, tmp_path):
    write_bottlenecks(tmp_path / "texts", found)
    for row, path in enumerate(found.dataset.paths):
        file = tmp_path / "texts" / path.parent.name / f"{path.name}_efficientnet-lite0.txt"
        values = np.array(file.read_text().split(","), np.float32)
        np.testing.assert_array_equal(values, found.embeddings[row])


def test_bottleneck_files_are_written_again_only_where_they_are_wrong(found, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "retrain")
    write_bottlenecks(tmp_path / "texts", found)
    files = sorted((tmp_path / "texts").rglob("*.txt"))
    assert len(files) == len(found.dataset) == 12
    files[0].write_text("0.5,x")
    shutil.copy(files[1], files[2])
    caplog.clear()
    write_bottlenecks(tmp_path / "texts", found)
    assert caplog.messages == [
        "Invalid float found, recreating bottleneck", f"Creating bottleneck at {files[0]}",
        f"Creating bottleneck at {files[2]}",
    ]  # fmt: skip


def test_bottleneck_file_that_cannot_be_written_ends_nothing(found, tmp_path, caplog):
    found.dataset.paths[0] = found.dataset.paths[0].with_name("long" * 60 + ".jpg")
    write_bottlenecks(tmp_path / "texts", found)
    assert "cannot be written (File name too long)" in caplog.text
    assert len(list((tmp_path / "texts").rglob("*.txt"))) == 11


def test_features_are_of_one_length_which_is_the_mean_of_the_embeddings(found):
    lengths = np.linalg.norm(found.features, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(found.embeddings, axis=1).mean(), rtol=1e-5)
    cosines = (found.features * found.embeddings).sum(axis=1) / lengths / np.linalg.norm(found.embeddings, axis=1)
    np.testing.assert_allclose(cosines, 1, rtol=1e-5)


def test_view_without_distortion_is_what_the_network_sees(picture, backbone):
    image = decode(read(picture))
    nothing = Distortion(False, 0, 0, 0)
    assert not nothing
    drawn = nothing.draw(np.random.default_rng(0))
    np.testing.assert_array_equal(view(image, backbone.spec, drawn), backbone.to_input(image))


def test_flip_mirrors_half_of_the_pictures(picture, backbone):
    image, random = decode(read(picture)), np.random.default_rng(0)
    drawn = [Distortion(True, 0, 0, 0).draw(random) for _ in range(1000)]
    assert 450 < sum(mirrored for mirrored, *_ in drawn) < 550
    turned = view(image, backbone.spec, (True, 1, 0.5, 0.5, 1))
    np.testing.assert_array_equal(turned, backbone.to_input(image)[:, ::-1])


@pytest.mark.parametrize(("flags", "low", "high"), [((30, 0), 1.3, 1.3), ((0, 50), 1, 1.5), ((30, 50), 1.3, 1.95)])
def test_crop_and_scale_enlarge_by_as_much(flags, low, high):
    random = np.random.default_rng(0)
    enlarged = [Distortion(False, *flags, 0).draw(random)[1] for _ in range(1000)]
    assert low <= min(enlarged) <= low * 1.01
    assert high / 1.01 <= max(enlarged) <= high + 1e-9


def test_enlarged_view_is_a_part_of_the_whole(backbone):
    pixels = np.zeros((400, 400, 3), np.uint8)
    pixels[:200, 200:] = 255  # the upper right quarter
    image = Image.fromarray(pixels)
    assert view(image, backbone.spec, (False, 2, 1, 0, 1)).mean() > 250
    assert view(image, backbone.spec, (False, 2, 0, 1, 1)).mean() < 5


def test_brightness_multiplies(backbone):
    image = Image.new("RGB", (300, 300), (100, 100, 200))
    assert view(image, backbone.spec, (False, 1, 0.5, 0.5, 1.5))[0, 0].tolist() == [150, 150, 255]
    random = np.random.default_rng(0)
    drawn = [Distortion(False, 0, 0, 20).draw(random)[-1] for _ in range(1000)]
    assert 0.8 <= min(drawn) < 0.81 < 1.19 < max(drawn) <= 1.2


def test_picture_that_is_gone_meanwhile_enters_as_it_was(found):
    distortion, random = Distortion(False, 50, 0, 0), np.random.default_rng(0)
    found.dataset.paths[0].unlink()
    views = embed_distorted(found, np.array([0, 1]), distortion, random)
    np.testing.assert_array_equal(views[0], found.embeddings[0])
    assert np.abs(views[1] - found.embeddings[1]).max() > 0.01
