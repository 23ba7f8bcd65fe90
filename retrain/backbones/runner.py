"""Run a backbone's LiteRT file on the CPU."""

import hashlib
import os
import threading
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from retrain.backbones.files import litert_file
from retrain.backbones.registry import find_spec
from retrain.errors import RetrainError
from retrain.images import DECODER_VERSION, to_input

POOLED, FEATURE_MAP = 2, 4  # dimensions of the two outputs of every network

_loading = threading.Lock()


def load_backbone(name):
    """Backbone of that registered name, its file shipped, cached or built now."""
    spec = find_spec(name)
    return Backbone(spec, litert_file(spec).read_bytes())


class Backbone:
    """A network ready to run.  Any number of threads may call it, each on an interpreter of its own."""

    def __init__(self, spec, content):
        """content: bytes of the LiteRT file."""
        self.spec, self.content = spec, content
        self._thread = threading.local()

    @cached_property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def fingerprint(self):
        """Equal for two backbones only where the same file gives the same embedding."""
        return f"{self.spec.name}:{self.sha256[:16]}:{self.spec.preprocessing}:decoder{DECODER_VERSION}"

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
        return FEATURE_MAP in self._ready().outputs

    def _run(self, image, *dimensions):
        """The outputs of so many dimensions for one picture, each without its first; None for what there is not."""
        ready = self._ready()
        interpreter, entry = ready.interpreter, ready.entry
        if entry["dtype"] != np.uint8:
            image = (image.astype(np.float32) - np.float32(self.spec.mean)) / np.float32(self.spec.scale)
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        # The map is fifty times as large as the vector: it is copied only where it is wanted.
        outputs = map(ready.outputs.get, dimensions)
        return [None if output is None else interpreter.get_tensor(output)[0] for output in outputs]

    def _ready(self):
        """This thread's interpreter, its entry, and its outputs: {dimensions: index}."""
        if not hasattr(self._thread, "interpreter"):
            interpreter = _interpreter(self.content, self.spec)
            self._thread.entry = interpreter.get_input_details()[0]
            outputs = interpreter.get_output_details()
            self._thread.outputs = {len(output["shape"]): output["index"] for output in outputs}
            self._thread.interpreter = interpreter
        return self._thread


def _interpreter(content, spec):
    from ai_edge_litert.interpreter import Interpreter

    try:
        with _loading, _no_chatter():
            # One thread each: pictures side by side use the cores better than one picture on all of them.
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
        if interpreter.get_input_details()[0]["shape"].tolist() != [1, spec.image_size, spec.image_size, 3]:
            raise ValueError("it takes pictures of another size")
    except (ValueError, RuntimeError) as error:
        raise RetrainError(f"the file of backbone {spec.name} does not run: {error}.", "Train again.") from error
    return interpreter


@contextmanager
def _no_chatter():
    # LiteRT announces its CPU delegate on stderr from C++, with no switch to turn that off.
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
