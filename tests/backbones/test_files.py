import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import retrain.tf
from retrain.backbones import BACKBONES, find_spec, generic_mean, load_backbone
from retrain.backbones import files as backbone_files
from retrain.backbones.files import cache_folder, find_cached, network_file
from retrain.errors import RetrainError
from retrain.recipes import odd_one_out

BUILT = find_spec("efficientnet-lite1-float32")
SHIPPED = [spec for spec in BACKBONES.values() if spec.shipped_sha256]


@pytest.fixture
def builds(monkeypatch):
    """Stands in for the converter; the list of what it was asked for."""
    asked = []

    def convert(spec):
        asked.append(spec.name)
        return b"a network of " + spec.name.encode() * 100_000, ".tflite"

    monkeypatch.setattr(retrain.tf, "convert_published", convert)
    return asked


@pytest.mark.parametrize("spec", SHIPPED, ids=lambda spec: spec.name)
def test_shipped_file_has_its_checksum(spec):
    assert hashlib.sha256(network_file(spec).read_bytes()).hexdigest() == spec.shipped_sha256


def test_three_backbones_are_shipped():
    assert [spec.name for spec in SHIPPED] == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]


@pytest.mark.parametrize("content", [b"", b"something else", None])
def test_damaged_shipped_file_is_a_clear_error(tmp_path, monkeypatch, content):
    monkeypatch.setattr(backbone_files, "SHIPPED", tmp_path)
    if content is not None:
        (tmp_path / "efficientnet-lite0.tflite").write_bytes(content)
    with pytest.raises(RetrainError, match=r"efficientnet-lite0\.tflite") as caught:
        load_backbone("efficientnet-lite0")
    assert caught.value.hint == "Install retrain again."


@pytest.mark.parametrize("name", odd_one_out.BACKBONES)
def test_generic_mean_is_that_of_features(name):
    spec = find_spec(name)
    mean = generic_mean(spec)
    assert mean.shape == (spec.embedding_size,)
    assert mean.dtype == np.float32
    assert 0.5 < np.linalg.norm(mean) < 1  # the mean of vectors of length 1 that point about the same way


@pytest.mark.parametrize("content", [b"", b"something else", None])
def test_damaged_generic_means_are_a_clear_error(tmp_path, monkeypatch, content):
    monkeypatch.setattr(backbone_files, "SHIPPED", tmp_path)
    if content is not None:
        (tmp_path / backbone_files.GENERIC_MEANS).write_bytes(content)
    with pytest.raises(RetrainError, match=r"generic-means\.npz") as caught:
        generic_mean(SHIPPED[0])
    assert caught.value.hint == "Install retrain again."


def test_built_file_is_built_once(builds):
    assert find_cached(BUILT) is None
    first, second = network_file(BUILT), network_file(BUILT)
    assert first == second == find_cached(BUILT)
    assert builds == ["efficientnet-lite1-float32"]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"A" + data[1:]])
def test_damaged_cached_file_is_built_anew(builds, damage):
    path = network_file(BUILT)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert network_file(BUILT).read_bytes() == whole
    assert len(builds) == 2


def test_backbones_do_not_share_cached_files(builds):
    paths = {network_file(find_spec(name)) for name in ("efficientnet-lite0-float32", "efficientnet-lite1-float32")}
    assert len(paths) == 2


def test_other_weights_or_build_version_are_built_anew(builds, monkeypatch):
    network_file(BUILT)
    monkeypatch.setattr(backbone_files, "BUILD_VERSION", 99)
    assert find_cached(BUILT) is None


def test_threads_building_at_once_find_whole_files(builds):
    with ThreadPoolExecutor(8) as executor:
        contents = set(executor.map(lambda _: network_file(BUILT).read_bytes(), range(40)))
    assert len(contents) == 1
    assert len(list(cache_folder().iterdir())) == 1


def test_processes_building_at_once_end_with_one_whole_file():
    code = """
import time, retrain.tf
from retrain.backbones import find_spec
from retrain.backbones.files import network_file
def convert(spec):
    time.sleep(0.2)
    return b"network" * 1_000_000, ".tflite"
retrain.tf.convert_published = convert
assert network_file(find_spec("efficientnet-lite1-float32")).read_bytes() == b"network" * 1_000_000
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert [path.suffix for path in cache_folder().iterdir()] == [".tflite"]


def test_failed_write_leaves_nothing(builds, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backbone_files.Path, "rename", fail)
    with pytest.raises(RetrainError, match="No space left on device") as caught:
        network_file(BUILT)
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert list(cache_folder().iterdir()) == []


def test_cache_folder_that_is_a_file_is_a_clear_error(builds, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(RetrainError, match="cannot write to the cache folder"):
        network_file(BUILT)


def test_folder_in_place_of_the_cached_file_is_a_clear_error(builds):
    path = network_file(BUILT)
    path.unlink()
    (path / "x").mkdir(parents=True)
    with pytest.raises(RetrainError, match="cannot write to the cache folder"):
        network_file(BUILT)


def test_without_tensorflow_the_error_names_the_set_up(monkeypatch):
    monkeypatch.setattr(retrain.tf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="needs TensorFlow") as caught:
        load_backbone("efficientnet-lite1-float32")
    assert "make setup-full" in caught.value.hint
