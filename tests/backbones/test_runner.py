from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from retrain.backbones import Backbone, find_spec, load_backbone, runner
from retrain.errors import RetrainError
from retrain.images import decode


@pytest.fixture(scope="module", params=["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def backbone(request):
    return load_backbone(request.param)


@pytest.fixture
def entry(backbone, picture):
    return backbone.to_input(decode(picture.read_bytes()))


def test_embedding_has_the_size_its_spec_says(backbone, entry):
    embeddings = backbone.embed(entry[None])
    assert (embeddings.shape, embeddings.dtype) == ((1, backbone.spec.embedding_size), np.float32)
    assert embeddings.std() > 0.1


def test_mean_of_feature_map_is_the_embedding(backbone, entry):
    embedding, feature_map = backbone.look(entry)
    step = np.diff(np.unique(embedding)).min()  # of int8
    assert feature_map.ndim == 3
    assert np.abs(feature_map.mean(axis=(0, 1)) - embedding).max() <= 2 * step


def test_embedding_is_the_same_in_any_batch_and_thread(backbone, entry):
    entries = np.stack([entry, entry[::-1], entry[:, ::-1], 255 - entry])
    expected = np.concatenate([backbone.embed(single[None]) for single in entries])
    assert np.array_equal(backbone.embed(entries), expected)
    with ThreadPoolExecutor(8) as executor:
        for found in executor.map(backbone.embed, [entries] * 16):
            assert np.array_equal(found, expected)


def test_other_pictures_have_other_embeddings(backbone, entry):
    first, second = backbone.embed(np.stack([entry, entry[::-1]]))
    assert not np.array_equal(first, second)


def test_result_outlives_the_next_run(backbone, entry):
    kept = backbone.look(entry)
    before = [output.copy() for output in kept]
    backbone.look(255 - entry)
    assert all(map(np.array_equal, kept, before))


def test_embedding_is_the_same_with_and_without_the_map(backbone, entry):
    assert np.array_equal(backbone.look(entry)[0], backbone.embed(entry[None])[0])


SPEC = find_spec("efficientnet-lite0")


@pytest.mark.parametrize(
    "other",
    [
        Backbone(replace(SPEC, image_size=240), b"network"),
        Backbone(replace(SPEC, crop=1.0), b"network"),
        Backbone(replace(SPEC, mean=0.0), b"network"),
        Backbone(replace(SPEC, scale=255.0), b"network"),
        Backbone(SPEC, b"another network"),
    ],
)
def test_fingerprint_tells_apart_what_embeds_differently(other):
    assert other.fingerprint != Backbone(SPEC, b"network").fingerprint


def test_fingerprint_changes_with_the_decoder(monkeypatch):
    before = Backbone(SPEC, b"network").fingerprint
    monkeypatch.setattr(runner, "DECODER_VERSION", 10_000)
    assert Backbone(SPEC, b"network").fingerprint != before


def test_fingerprint_of_the_same_is_the_same():
    assert Backbone(replace(SPEC), b"network").fingerprint == Backbone(SPEC, b"network").fingerprint


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1, 1), (3, 900)])
def test_picture_of_any_shape_fits(size):
    entry = load_backbone("efficientnet-lite0").to_input(Image.new("RGB", size, "red"))
    assert entry.shape == (224, 224, 3)
    assert (entry == (255, 0, 0)).all()


@pytest.mark.parametrize("content", [b"", b"no network", bytes(1000)])
def test_file_that_is_no_network_is_a_clear_error(content, entry):
    with pytest.raises(RetrainError, match="does not run") as caught:
        Backbone(SPEC, content).embed(entry[None])
    assert caught.value.hint


def test_network_that_does_not_fit_its_spec_is_a_clear_error(backbone):
    spec = replace(backbone.spec, image_size=100)
    with pytest.raises(RetrainError, match="does not run"):
        Backbone(spec, backbone.content).embed(np.zeros((1, 100, 100, 3), np.uint8))


def test_loading_says_nothing_on_stderr(capfd, entry):
    load_backbone("efficientnet-lite0").embed(np.zeros((1, 224, 224, 3), np.uint8))
    assert capfd.readouterr().err == ""
