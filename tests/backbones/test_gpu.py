"""When embedding goes to a GPU.  What computes there is a stand-in; tests/tf/test_devices.py has the real one."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import retrain.tf
from retrain.backbones import find_spec, gpu

FLOAT = find_spec("efficientnet-lite0-float32")


def means(images):
    return images.mean(axis=(1, 2), dtype=np.float32)


def backbone(spec=FLOAT, embed=means):
    return SimpleNamespace(spec=spec, embed=embed)


@pytest.fixture(autouse=True)
def card(monkeypatch):
    monkeypatch.setattr(gpu, "has_card", lambda: True)
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(retrain.tf, "open_embedder", lambda spec: means)


def test_registered_network_in_full_precision_embeds_there():
    assert gpu.open_embedder(backbone(), gpu.ENOUGH) is means
    assert gpu.open_embedder(backbone(replace(FLOAT, runtime="tensorflow")), gpu.ENOUGH) is means
    assert gpu.open_embedder(backbone(find_spec("keras:ResNet50,size=160")), gpu.ENOUGH) is means


@pytest.mark.parametrize(
    "spec",
    [
        find_spec("efficientnet-lite0"),
        replace(FLOAT, name="mine.tflite", weights_package=""),
        replace(FLOAT, architecture="efficientnet-lite2"),  # in a stranger's model
        replace(FLOAT, name="efficientnet-lite0-fine-tuned"),
    ],
    ids=lambda spec: spec.name,
)
def test_others_embed_on_the_cpu(spec):
    assert gpu.open_embedder(backbone(spec), gpu.ENOUGH) is None


def test_few_pictures_and_machines_without_a_card_do_not_wait_for_tensorflow(monkeypatch):
    monkeypatch.setattr(retrain.tf, "open_embedder", lambda spec: pytest.fail("TensorFlow was started"))
    assert gpu.open_embedder(backbone(), gpu.ENOUGH - 1) is None
    monkeypatch.setattr(gpu, "has_card", lambda: False)
    assert gpu.open_embedder(backbone(), gpu.ENOUGH) is None


def test_card_without_tensorflow_is_told(monkeypatch, caplog):
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    assert gpu.open_embedder(backbone(), gpu.ENOUGH) is None
    assert "There is a GPU, but no TensorFlow" in caplog.text


def test_gpu_that_computes_something_else_is_not_used(monkeypatch, caplog):
    monkeypatch.setattr(retrain.tf, "open_embedder", lambda spec: lambda images: -means(images))
    assert gpu.open_embedder(backbone(), gpu.ENOUGH) is None
    assert "The GPU computes something else than efficientnet-lite0-float32" in caplog.text
