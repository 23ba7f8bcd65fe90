"""The old layer: its gradient against numbers, its draws against their chances."""

import numpy as np
import pytest

from retrain.compat.sgd import STDDEV, Layer, Sampler
from retrain.metrics import log_loss


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_first_weights_are_small_and_none_is_far_off(random):
    layer = Layer.draw(1000, 50, random)
    assert layer.weights.dtype == np.float32
    assert np.abs(layer.weights).max() <= 2 * STDDEV
    assert layer.weights.std() == pytest.approx(0.88 * STDDEV, rel=0.02)  # of what is cut at two deviations
    assert not layer.biases.any()


def test_step_goes_down_the_gradient(random):
    embeddings, labels = random.normal(size=(6, 4)), random.integers(0, 3, 6)
    layer = Layer(random.normal(size=(4, 3)), random.normal(size=3))

    def loss(weights, biases):
        return log_loss(embeddings @ weights + biases, labels)

    epsilon, expected = 1e-6, np.empty((5, 3))
    for row, column in np.ndindex(5, 3):
        both = []
        for sign in (-1, 1):
            parameters = np.vstack([layer.weights, layer.biases])
            parameters[row, column] += sign * epsilon
            both.append(loss(parameters[:4], parameters[4]))
        expected[row, column] = (both[1] - both[0]) / (2 * epsilon)
    before = np.vstack([layer.weights, layer.biases])
    layer.step(embeddings, labels, 0.1)
    np.testing.assert_allclose(before - np.vstack([layer.weights, layer.biases]), 0.1 * expected, rtol=1e-4, atol=1e-8)


def test_layer_learns_and_measures(random):
    labels = np.repeat([0, 1, 2], 20)
    embeddings = np.eye(3, 5, dtype=np.float32)[labels] + random.normal(0, 0.1, (60, 5)).astype(np.float32)
    layer = Layer.draw(5, 3, random)
    before = layer.measure(embeddings, labels)
    for _ in range(200):
        layer.step(embeddings, labels, 0.5)
    accuracy, cross_entropy = layer.measure(embeddings, labels)
    assert (before[1], accuracy) == (pytest.approx(np.log(3), abs=0.01), 1)
    assert cross_entropy < 0.2


def test_each_class_is_drawn_alike_and_then_each_of_its_pictures(random):
    labels = np.array([0] * 2 + [1] * 8 + [2] * 5)
    rows = np.arange(10)  # the third class has none that may be drawn
    drawn = Sampler(labels, rows, random).draw(20_000)
    counts = np.bincount(drawn, minlength=15) / 20_000
    np.testing.assert_allclose(counts[:2], 1 / 4, atol=0.015)
    np.testing.assert_allclose(counts[2:10], 1 / 16, atol=0.015)
    assert not counts[10:].any()


def test_below_nothing_stands_for_all(random):
    sampler = Sampler(np.array([1, 0, 1, 0]), np.array([3, 0, 2]), random)
    assert sorted(sampler.draw(-1)) == [0, 2, 3]
    assert len(sampler.draw(7)) == 7
    assert len(Sampler(np.array([0]), np.array([], int), random).draw(5)) == 0
