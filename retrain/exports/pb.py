"""pb: the frozen graph `retrained_graph.pb`, which programs made for TensorFlow 1 load by the names they know."""

import re
import shutil
import tempfile
from pathlib import Path

from retrain.errors import RetrainError
from retrain.exports.describing import as_text, describe

FILE = "retrained_graph.pb"
FINAL = "final_result"
MARK = b"\x0a\x07retrain\x12\x05Const"  # the node that `retrain.tf.retrained_graph` describes the model in

NEEDS = "`pip install tensorflow`"
HOW = """\
`final_result:0` gives the probabilities, in the order of `labels.txt`. Feed one of these:

- `DecodeJpeg/contents:0`: the bytes of one JPEG or PNG file;
- `DecodeJpeg:0`: one decoded picture, uint8 (height, width, 3);
- `input:0` or `Mul:0`: squares float32 (N, $side, $side, 3) of (pixel - 128) / 128, which programs are told by
  `--input_height $side --input_width $side --input_mean 128 --input_std 128`;
- `Placeholder:0`: the same of pixel / 255.
"""
CODE = """\
import sys

import tensorflow as tf

graph = tf.compat.v1.GraphDef()
with open("retrained_graph.pb", "rb") as file:
    graph.ParseFromString(file.read())
with tf.Graph().as_default(), tf.compat.v1.Session() as session, open(sys.argv[1], "rb") as picture:
    tf.import_graph_def(graph, name="")
    scores = session.run("final_result:0", {"DecodeJpeg/contents:0": picture.read()})[0]
$show"""


def write(subject, folder):
    from retrain.tf import build_retrained_graph

    (folder / FILE).write_bytes(build_retrained_graph(subject.model, FINAL, as_text(subject.described)))


def run(folder):
    from retrain.tf import open_retrained_graph

    return open_retrained_graph((folder / FILE).read_bytes(), FINAL)[0]


def run_bytes(folder):
    from retrain.tf import open_retrained_graph

    return open_retrained_graph((folder / FILE).read_bytes(), FINAL)[1]


def write_graph(model, path, final_tensor_name=FINAL):
    """Write the frozen graph of a Model in one step, over what is there; see `retrain.tf.retrained_graph`.

    Networks are computed in float32, whatever the model itself has.  Raises RetrainError.
    """
    from retrain.tf import build_retrained_graph

    require_name(final_tensor_name)
    put(build_retrained_graph(model, final_tensor_name, as_text(describe(model))), Path(path))


def require_name(tensor):
    """Raise RetrainError where a graph can have no tensor of that name."""
    if not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", tensor):
        raise RetrainError(f"no tensor can be named {tensor!r}.", "Take letters, digits and underscores.")


def put(content, path):
    """Write a file in one step, over what is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            (scratch / path.name).write_bytes(content)
            (scratch / path.name).replace(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise RetrainError(f"cannot write {path}: {error.strerror}.", "Name another place.") from error
