"""Run a backbone's file on the CPU: by LiteRT, or by TensorFlow where it cannot be converted."""

import hashlib
import os
import threading
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from retrain.errors import RetrainError
from retrain.images import DECODER_VERSION, to_input

POOLED, FEATURE_MAP = 2, 4  # dimensions of the two outputs of every network
SUFFIXES = {"litert": ".tflite", "tensorflow": ".pb"}  # of the file, by runtime

_loading = threading.Lock()


class Backbone:
    """A network ready to run.  Any number of threads may call it, each on an interpreter of its own."""

    def __init__(self, spec, content, weights=None):
        """content: bytes of the file.  weights: function that returns those of Keras (an `.npz`), of a network that
        has learned on; only exports ask for them."""
        self.spec, self.content, self.weights = spec, content, weights
        self._thread = threading.local()

    @cached_property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def fingerprint(self):
        """Equal for two backbones only where the same file gives the same embedding."""
        origin = self.spec.source_sha256 or self.spec.name
        return f"{origin}:{self.sha256[:16]}:{self.spec.preprocessing}:decoder{DECODER_VERSION}"

    @property
    def suffix(self):
        """Of the file's name: it tells what runs it."""
        return SUFFIXES[self.spec.runtime]

    def to_input(self, image):
        """uint8 (image_size, image_size, 3) of a decoded picture."""
        return to_input(image, self.spec.image_size, self.spec.crop)

    def embed(self, images):
        """images: uint8 (N, H, W, 3).  Returns embeddings float32 (N, D)."""
        return np.stack([self._run(image, POOLED)[0] for image in images])

    def look(self, image):
        """Embedding float32 (D,) and feature map float32 (h, w, D) of one picture uint8 (H, W, 3), in one run.

        The map's mean over h and w is the embedding, but for the rounding of int8, which also cuts the largest values
        off.  None where the network gives no map, as one must that pools otherwise.
        """
        return self._run(image, POOLED, FEATURE_MAP)

    @property
    def has_feature_map(self):
        """Whether `look` gives a feature map."""
        return FEATURE_MAP in self._ready().sizes

    def _run(self, image, *dimensions):
        """The outputs of so many dimensions for one picture, each without its first; None for what there is not."""
        network = self._ready()
        if network.dtype == np.float32:
            image = (image.astype(np.float32) - np.float32(self.spec.mean)) / np.float32(self.spec.scale)
        elif network.dtype == np.int8:
            image = (image.astype(np.int16) - 128).astype(np.int8)
        return network.run(image[None], dimensions)

    def _ready(self):
        """This thread's network."""
        if not hasattr(self._thread, "network"):
            self._thread.network = open_network(self.spec, self.content)
            if self._thread.network.shape != (1, self.spec.image_size, self.spec.image_size, 3):
                del self._thread.network
                raise _does_not_run(self.spec, "it takes pictures of another size")
        return self._thread.network


def open_network(spec, content):
    """What runs that content: an object with `shape` and `dtype` of its input, `sizes` {dimensions: numbers in the last
    of them} of its outputs, and `run`.  Raises RetrainError where it does not run."""
    if spec.runtime == "tensorflow":
        from retrain.tf import open_graph

        return open_graph(spec, content)
    try:
        return LiteRTNetwork(content)
    except (ValueError, RuntimeError) as error:
        raise _does_not_run(spec, error) from error


def _does_not_run(spec, reason):
    return RetrainError(f"the file of backbone {spec.name} does not run: {reason}.", "Train again.")


def open_interpreter(content):
    """LiteRT's interpreter of a file's bytes, for one thread."""
    from ai_edge_litert.interpreter import Interpreter

    with _loading, no_chatter():
        # One thread each: pictures side by side use the cores better than one picture on all of them.
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter


class LiteRTNetwork:
    """An interpreter, for one thread."""

    def __init__(self, content):
        self._interpreter = open_interpreter(content)
        entries = self._interpreter.get_input_details()
        if len(entries) != 1:
            raise ValueError(f"it takes {len(entries)} inputs")
        self._entry = entries[0]
        self.shape, self.dtype = tuple(self._entry["shape"].tolist()), self._entry["dtype"]
        self.outputs = {len(output["shape"]): output for output in self._interpreter.get_output_details()}

    @property
    def sizes(self):
        return {dimensions: int(output["shape"][-1]) for dimensions, output in self.outputs.items()}

    def run(self, images, dimensions):
        """images: (1, H, W, 3).  Returns the outputs of so many dimensions, each without its first, or None."""
        self._interpreter.set_tensor(self._entry["index"], images)
        self._interpreter.invoke()
        # The map is fifty times as large as the vector: it is copied only where it is wanted.
        return [None if output is None else self._read(output) for output in map(self.outputs.get, dimensions)]

    def _read(self, output):
        values = self._interpreter.get_tensor(output["index"])[0]
        if output["dtype"] == np.float32:
            return values
        scale, zero = output["quantization"]
        return (values.astype(np.float32) - np.float32(zero)) * np.float32(scale)


@contextmanager
def no_chatter():
    """Keep off stderr what C++ says there without a switch, such as LiteRT of its CPU delegate."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
