import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import wilcoxon

import retrain.tf
from benchmarks import explain as benchmark
from retrain.backbones import find_spec, load_backbone
from retrain.backbones.runner import FEATURE_MAP
from retrain.errors import RetrainError
from retrain.explain import class_map, heat, needs_tensorflow, otsu, overlay, require_maps, segment
from retrain.head import Head, normalize
from retrain.images import decode
from retrain.model import Model

LITES = ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]


def model_of(*names, classes=3, **head):
    """A model whose head is drawn at random."""
    backbones = [load_backbone(name) for name in names]
    size = sum(backbone.spec.embedding_size for backbone in backbones)
    weights = np.random.default_rng(0).normal(size=(classes, size)).astype(np.float32)
    return Model([*"abc"][:classes], backbones, Head(weights, np.arange(classes, dtype=np.float32)))


def mapless():
    """A model of one network that gives no feature map."""
    model = model_of(LITES[0])
    (backbone,) = model.backbones
    backbone._run(np.zeros((224, 224, 3), np.uint8))
    del backbone._thread.network.outputs[FEATURE_MAP]
    return model


@pytest.fixture(scope="module")
def learned():
    """A model of drawn pictures, and others of the same kind."""
    model = benchmark.learn(benchmark.draw_scenes("any background", 40, "learned"))
    return model, benchmark.draw_scenes("any background", 12, "tested")


@pytest.mark.parametrize("names", [LITES[:1], LITES[1:], LITES])
def test_mean_of_the_class_map_and_the_intercept_are_the_logit(picture, names):
    model, image = model_of(*names), decode(picture.read_bytes())
    embeddings = normalize([backbone.embed(backbone.to_input(image)[None]) for backbone in model.backbones])
    means = [class_map(model, image, label).mean() for label in range(3)]
    assert means + model.head.intercept == pytest.approx(model.head.logits(embeddings)[0], abs=0.03)
    assert np.ptp(means) > 0.2


def test_maps_of_several_backbones_come_in_the_largest_size(picture):
    image = decode(picture.read_bytes())
    assert class_map(model_of(*LITES), image, 0).shape == (9, 9)
    assert class_map(model_of(LITES[0]), image, 0).shape == (7, 7)


def test_hottest_place_is_on_the_object(learned):
    model, scenes = learned
    hits = [benchmark.points_at_object(model, scene) for scene in scenes]
    assert np.mean(hits) >= 0.95


def test_class_goes_sooner_where_the_hottest_cells_go_first(learned):
    model, scenes = learned
    hottest, random = (
        benchmark.deletion(model, scenes[::3], order) for order in (benchmark.hottest_first, benchmark.at_random)
    )
    assert wilcoxon(hottest, random, alternative="less").pvalue < 0.01


def test_random_head_gives_another_map(learned):
    model, scenes = learned
    assert abs(np.mean(benchmark.likeness(model, scenes[::3]))) < 0.3


def constant_map(shape, value=1.0):
    """A model of one backbone that sees the same at every place, and a class that likes it."""
    backbone = load_backbone(LITES[0])
    feature_map = np.full((*shape, 1), value, np.float32)
    backbone.look = lambda pixels: (feature_map.mean(axis=(0, 1)), feature_map)
    backbone.spec = replace(backbone.spec, embedding_size=1)
    return Model(["a", "b"], [backbone], Head(np.array([[1], [-1]], np.float32), np.zeros(2, np.float32)))


@pytest.mark.parametrize("size", [(400, 200), (200, 400), (200, 200), (1, 1), (3, 900)])
def test_heat_lies_on_the_crop_that_the_networks_see(size):
    hot = heat(constant_map((7, 7)), Image.new("RGB", size), 0)
    assert hot.shape == size[::-1]
    assert set(np.unique(hot)) <= {0, 1}
    rows, columns = np.nonzero(hot)
    side = max(1, 0.875 * min(size))
    for places, length in [(rows, size[1]), (columns, size[0])]:
        assert places.min() == pytest.approx((length - side) / 2, abs=1)
        assert places.max() + 1 == pytest.approx((length + side) / 2, abs=1)


def test_nothing_is_hot_where_nothing_speaks_for_the_class():
    image = Image.new("RGB", (200, 100), "green")
    hot = heat(constant_map((7, 7)), image, 1)
    assert not hot.any()
    assert len(overlay(image, hot).getcolors()) == 1  # all grey


def test_heat_shows_where_it_is():
    image = Image.new("RGB", (300, 200), (90, 90, 90))
    hot = np.zeros((200, 300), np.float32)
    hot[50:100, 200:250] = 1
    shown = np.asarray(overlay(image, hot)).astype(int)
    changed = (shown != 90).any(axis=2)
    assert np.array_equal(changed, hot > 0)
    left = np.asarray(segment(image, hot)).astype(int)
    assert np.array_equal((left == 90).all(axis=2), hot > 0)
    assert (left[hot == 0] > 200).all()


def test_heat_fits_a_picture_of_another_size():
    hot = np.zeros((200, 300), np.float32)
    hot[50:100, 200:250] = 1
    small = Image.new("RGB", (30, 20), (90, 90, 90))
    assert overlay(small, hot).size == segment(small, hot).size == small.size
    assert np.asarray(segment(small, hot))[7, 22].tolist() == [90, 90, 90]


def test_more_heat_is_brighter_and_never_the_same_colour():
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (2, 1))
    shown = np.asarray(overlay(Image.new("RGB", (256, 2)), ramp))[0]
    lightness = np.asarray(Image.fromarray(shown[None]).convert("L"))[0].astype(int)
    assert (np.diff(lightness) >= 0).all()
    assert lightness[-1] > 150


def test_otsu_parts_two_groups():
    values = np.concatenate([np.linspace(0.1, 0.2, 90), np.linspace(0.7, 0.9, 30)])
    assert 0.2 < otsu(values) <= 0.7
    assert not (np.zeros(5) > otsu(np.zeros(5))).any()


def test_network_without_a_map_goes_by_its_gradient(picture, monkeypatch):
    model, image = mapless(), decode(picture.read_bytes())
    asked = []

    def gradient_map(spec, pixels, weights):
        asked.append(SimpleNamespace(spec=spec, pixels=pixels, weights=weights))
        return np.eye(5, dtype=np.float32)

    monkeypatch.setattr(retrain.tf, "gradient_map", gradient_map)
    assert np.array_equal(class_map(model, image, 2), np.eye(5))
    assert asked[0].spec is find_spec(LITES[0])
    assert asked[0].pixels.shape == (224, 224, 3)
    assert np.array_equal(asked[0].weights, model.head.weights[2])


@pytest.fixture
def no_tensorflow(monkeypatch):
    monkeypatch.setattr(retrain.tf.importlib.util, "find_spec", lambda name: None)


def test_gradient_without_tensorflow_is_a_clear_error(picture, no_tensorflow):
    model, image = mapless(), decode(picture.read_bytes())
    for attempt in (lambda: require_maps(model), lambda: class_map(model, image, 0)):
        with pytest.raises(RetrainError, match="needs TensorFlow") as caught:
            attempt()
        assert "retrain[tf]" in caught.value.hint


def test_maps_of_the_networks_themselves_require_nothing(no_tensorflow):
    model = model_of(*LITES)
    assert not needs_tensorflow(model)
    require_maps(model)


def test_one_network_without_a_map_is_enough_to_need_tensorflow():
    assert needs_tensorflow(Model(["a"], [*model_of(LITES[0]).backbones, *mapless().backbones], None))


def test_value_that_int8_cuts_off_asks_for_no_gradient(no_tensorflow):
    model, image = model_of(LITES[-1]), Image.new("RGB", (300, 300), "blue")
    (backbone,) = model.backbones
    embedding, feature_map = backbone.look(backbone.to_input(image))
    assert feature_map.mean(axis=(0, 1)).max() > 1.3 * embedding.max()
    assert class_map(model, image, 0).shape == (9, 9)


def test_overlay_is_a_picture_that_can_be_saved(picture):
    image = decode(picture.read_bytes())
    stream = io.BytesIO()
    overlay(image, heat(model_of(LITES[0]), image, 0)).save(stream, "JPEG")
    assert decode(stream.getvalue()).size == image.size
