"""A model for use elsewhere: one file a format, with `write(subject, folder)`, `run(folder)` and how to run it.

`run` gives a function: pixels float32 (N, S, S, 3) of 0-255 → probabilities (N, C).  Where a format takes encoded
pictures, `run_bytes` gives one of these.  To add a format: its file, and its line in FORMATS.
"""

import importlib
from difflib import get_close_matches
from typing import NamedTuple

from retrain.errors import RetrainError


class Format(NamedTuple):
    in_float: bool = True  # networks in float32; else as the model has them
    is_run: bool = True  # else it is only packed


FORMATS = {
    "saved_model": Format(),
    "keras": Format(),
    "tflite": Format(),
    "tflite-int8": Format(in_float=False),
    "onnx": Format(),
    "pb": Format(),
    "zip": Format(in_float=False, is_run=False),
}

# What is compared, before an export is there, and with what.
COMPARED = {
    "pixels": "fed the same pixels, beside our own networks and head",
    "guess": "fed pixels cut out as ours, beside `retrain guess`",
    "bytes": "fed pictures' bytes, beside `retrain guess`",
}


def load_format(name):
    """The module of a format."""
    return importlib.import_module(f"retrain.exports.{name.replace('-', '_')}")


def require_formats(names):
    """Raise RetrainError unless all are names of formats."""
    for name in names:
        if name not in FORMATS:
            near = get_close_matches(name.lower(), FORMATS)
            raise RetrainError(f"there is no format {name!r}.", f"There is: {', '.join(near or FORMATS)}.")
