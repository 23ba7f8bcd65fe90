import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks import explain as benchmark
from retrain import shortcut
from retrain.backbones import load_backbone
from retrain.head import Head
from retrain.model import Model
from retrain.options import QUALITIES
from retrain.shortcut import ALPHA, SAMPLE, check_shortcut, choose_sample

NAMES = benchmark.NAMES[:3]
SEEDS = 10


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "flagged"), [("planted stripes", SEEDS), ("any background", 0)])
def test_planted_shortcut_is_flagged_and_nothing_else(kind, flagged):
    found = [benchmark.check(kind, 24, 24, seed, NAMES) for seed in range(SEEDS)]
    assert sum(result["flagged"] for result in found) == flagged
    assert not any(result["classes"] for result in found if not result["flagged"])
    wins = [result["object_masked"] > result["background_masked"] for result in found]
    assert set(wins) == {kind == "planted stripes"}


@pytest.fixture(scope="module")
def planted():
    """A model of two networks that looks at the background, pictures and labels."""
    model = benchmark.learn(benchmark.draw_scenes("planted stripes", 16, "learned", NAMES), QUALITIES["good"], NAMES)
    scenes = benchmark.draw_scenes("planted stripes", 8, "tested", NAMES)
    return model, [scene.image for scene in scenes], [scene.label for scene in scenes]


def test_finding_names_classes_and_the_clearest_pictures(planted):
    model, images, labels = planted
    found = check_shortcut(model, iter(images), labels)
    assert json.loads(json.dumps(found)) == found
    assert found["flagged"]
    assert set(found["classes"]) <= set(NAMES)
    assert found["pictures"] == len(images)
    assert 0 <= found["background_masked"] < found["object_masked"] <= 1
    assert len(found["examples"]) == len(set(found["examples"])) == 6
    assert set(found["examples"]) <= set(range(len(images)))


def test_same_pictures_give_the_same_finding(planted):
    assert check_shortcut(*planted) == check_shortcut(*planted)


@pytest.mark.parametrize("labels", [[], [0], [1, 1, 1]])
def test_pictures_of_fewer_than_two_classes_tell_nothing(planted, labels):
    model, images, _ = planted
    found = check_shortcut(model, images[: len(labels)], labels)
    assert found == {
        "flagged": False,
        "classes": [],
        "pictures": 0,
        "object_masked": None,
        "background_masked": None,
        "examples": [],
    }


def test_too_few_pictures_flag_nothing(planted):
    model, images, labels = planted
    two = [labels.index(0), labels.index(1)]
    found = check_shortcut(model, [images[row] for row in two], [0, 1])
    assert (found["pictures"], found["flagged"]) == (2, False)


def test_network_without_a_feature_map_is_not_judged(planted, monkeypatch):
    _, images, labels = planted
    backbone = load_backbone(QUALITIES["fast"])
    monkeypatch.setattr(backbone, "look", lambda pixels: (np.ones(1280, np.float32), None))
    model = Model(NAMES, [backbone], Head(np.zeros((3, 1280), np.float32), np.zeros(3, np.float32)))
    assert check_shortcut(model, images, labels)["pictures"] == 0


def test_one_class_that_outweighs_the_others_is_judged_too(planted):
    model, images, labels = planted
    rows = [row for row, label in enumerate(labels) if label == 0] + [labels.index(1), labels.index(2)]
    found = check_shortcut(model, [images[row] for row in rows], [labels[row] for row in rows])
    assert 2 <= found["pictures"] <= len(rows)


@pytest.fixture
def decide(monkeypatch):
    """`check_shortcut` of duels that are given: function of wins float (n, n), of object and background, and labels."""

    def decide(duels, labels):
        monkeypatch.setattr(shortcut, "_see", lambda model, image: [])
        monkeypatch.setattr(shortcut, "_duel", lambda model, seen, labels, one, other: duels[one, other])
        monkeypatch.setattr(shortcut, "ordered_map", map)
        return check_shortcut(SimpleNamespace(classes=[*"abcdefghij"]), labels, labels)

    return decide


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
def test_chance_is_flagged_no_more_often_than_its_level(decide, classes):
    runs, random, labels = 250, np.random.default_rng(classes), np.arange(SAMPLE) % classes
    found = [decide(random.beta(0.15, 0.15, (SAMPLE, SAMPLE)), labels) for _ in range(runs)]
    assert sum(result["flagged"] for result in found) <= binom.ppf(0.999, runs, ALPHA)


def test_only_the_class_whose_background_wins_is_named(decide):
    random, labels = np.random.default_rng(0), np.arange(SAMPLE) % 3
    duels = random.normal(np.where(labels == 1, 0.98, 0.3), 0.02, (SAMPLE, SAMPLE))
    found = decide(duels, labels)
    assert (found["flagged"], found["classes"]) == (True, ["b"])
    assert found["examples"]
    assert set(labels[found["examples"]]) == {1}


def test_each_picture_is_in_one_pair_at_most():
    random = np.random.default_rng(0)
    for classes in [1, 2, 3, 5, 10] * 10:
        labels = random.integers(0, classes, random.integers(0, SAMPLE)) ** 2
        pairs = shortcut._pairs(labels)
        assert len(set(pairs.ravel().tolist())) == pairs.size
        assert (labels[pairs[:, 0]] != labels[pairs[:, 1]]).all()
        most = np.bincount(labels).max(initial=0)
        assert len(pairs) == min(len(labels) // 2, len(labels) - most)


def test_sample_is_right_spread_and_always_the_same():
    random = np.random.default_rng(1)
    labels, correct = np.repeat([0, 1, 2, 3], [200, 100, 50, 3]), random.random(353) < 0.8
    correct[-3:] = True
    rows = choose_sample(labels, correct)
    assert rows == choose_sample(labels, correct) == sorted(set(rows))
    assert len(rows) == SAMPLE
    assert correct[rows].all()
    assert np.bincount(labels[rows]).tolist() == [31, 31, 31, 3]


def test_sample_of_nothing_is_empty():
    assert choose_sample(np.array([], int), np.array([], bool)) == []
    assert choose_sample(np.array([0, 1]), np.array([False, False])) == []
