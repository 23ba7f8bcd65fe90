import numpy as np
import pytest
from PIL import Image

from retrain.augment import augment


@pytest.fixture
def ramp():
    """Gray that rises from left to right."""
    return Image.fromarray(np.tile(np.linspace(40, 200, 320, dtype=np.uint8)[None, :, None], (200, 1, 3)))


@pytest.mark.parametrize("size", [(320, 200), (1, 500), (500, 1), (1, 1), (7, 3)])
def test_view_of_any_picture_has_the_network_s_shape(size):
    view = augment(Image.new("RGB", size, "red"), 64, np.random.default_rng(0))
    assert view.shape == (64, 64, 3)
    assert view.dtype == np.uint8


def test_same_seed_gives_the_same_view_and_another_one_another(ramp):
    views = [augment(ramp, 32, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_views_are_mirrored_cut_turned_and_lit_otherwise(ramp):
    views = [augment(ramp, 32, np.random.default_rng(seed)).astype(int) for seed in range(200)]
    rising = [view[16, -4, 0] > view[16, 4, 0] for view in views]
    assert 60 < sum(rising) < 140
    spans = [abs(view[16, -2, 0] - view[16, 1, 0]) for view in views]
    assert max(spans) > 2 * min(spans)
    tilted = [abs(int(view[28, 16, 0]) - int(view[4, 16, 0])) > 3 for view in views]
    assert 40 < sum(tilted) < 160
    means = [view.mean() for view in views]
    assert min(means) < 90 < 150 < max(means)
