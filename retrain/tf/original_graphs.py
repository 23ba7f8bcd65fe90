"""Run a graph that the original programs wrote or read: pixels in, one number a label out.

Such graphs take a picture in one of two ways.  Those of Inception decode it themselves (`DecodeJpeg/contents:0`): our
decoder takes the place of theirs, so that a stranger's file meets one decoder only and may have any format; the graph
then scales it as ever.  The others take pixels of one size (`Mul:0`, `input:0`, `Placeholder:0`): these are
made as the original label_image.py made them, the whole picture squeezed into the square by TensorFlow 1's scaling.
"""

import logging
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
import tensorflow as tf

from retrain.errors import RetrainError
from retrain.tf.safety import refuse_unlisted

v1 = tf.compat.v1
log = logging.getLogger("retrain")

DECODERS = {"DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeImage"}
PLACEHOLDERS = {"Placeholder", "PlaceholderV2"}
OURS = "retrain"  # a node of the graphs that we write
OUTPUTS = "final_result", "softmax"  # of retrain.py; of Inception as it was published
# What graphs with such an input are known to take: pixels of a side, mean, standard deviation.
KNOWN = {"Mul": (299, 128, 128), "input": (None, 128, 128), "Placeholder": (None, 0, 255)}  # Inception; MobileNet; hub


class OriginalGraph:
    """A graph ready to run.  Any number of threads may call it."""

    def __init__(self, name, content, options):
        """content: bytes of a GraphDef.  options: GraphOptions.  Raises RetrainError where it cannot be run."""
        self.name = name
        graph = _load(name, content)
        self._output = _output(name, graph, options.output_layer)
        self._entry = _entry(name, graph, self._output, options.input_layer)
        self._prepare = _preparation(name, self._entry, options)
        # One thread each: pictures side by side use the cores better than one picture on all of them.
        config = v1.ConfigProto(device_count={"GPU": 0}, intra_op_parallelism_threads=1)
        self._session = v1.Session(graph=graph, config=config)

    def run(self, image):
        """What the graph says of a decoded picture, float32 (labels,).  Raises RetrainError where it does not run."""
        try:
            with tf.device("/CPU:0"):
                entering = self._prepare(image)
            found = self._session.run(self._output, {self._entry: entering})
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise RetrainError(
                f"{self.name} does not run from {self._entry.name} to {self._output.name}: {_first_line(error)}",
                "Check its layers, and the height and width of its input.",
            ) from error
        if found.ndim == 0 or found.size != found.shape[-1]:
            raise RetrainError(
                f"{self._output.name} of {self.name} gives {found.shape}, not one number a label.",
                "--output-layer names the layer that does.",
            )
        if not np.isfinite(found).all():
            raise RetrainError(f"{self._output.name} of {self.name} gives no numbers.", "Fetch or export it again.")
        return found.ravel().astype(np.float32)


def _load(name, content):
    definition = v1.GraphDef()
    try:
        definition.ParseFromString(content)
    except Exception as error:  # protobuf's own, which differ between its versions
        raise RetrainError(f"{name} is damaged, or no frozen graph.", "Fetch or export it again.") from error
    if not definition.node:
        raise RetrainError(f"{name} holds no graph.", "Name a frozen graph, such as retrain.py wrote.")
    refuse_unlisted(name, definition)
    for node in definition.node:
        node.device = ""  # of the machine on which it was made
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
    except Exception as error:  # a damaged graph may raise anything
        raise RetrainError(f"{name} is damaged: {_first_line(error)}", "Fetch or export it again.") from error
    return graph


def _output(name, graph, layer):
    operations = graph.get_operations()
    if layer:
        return _find(name, graph, layer)
    named = {operation.name: operation for operation in operations}
    found = [named[each] for each in OUTPUTS if each in named][:1] or [each for each in operations if _is_an_end(each)]
    if len(found) != 1:
        raise RetrainError(f"{name} does not say which layer is its output.", _choice("--output-layer", found))
    return found[0].outputs[0]


def _is_an_end(operation):
    numbers = [tensor for tensor in operation.outputs if tensor.dtype == tf.float32]
    return operation.type != "Const" and bool(numbers) and not any(tensor.consumers() for tensor in operation.outputs)


def _entry(name, graph, output, layer):
    """The tensor at which a picture enters: what the graph's decoder gives, or else pixels of one size."""
    behind = _behind(output.op)
    if layer:
        named = _find(name, graph, layer)
        found = [named] if named.dtype != tf.string else _first_outputs(named.consumers(), DECODERS)
    else:
        found = _first_outputs(behind, DECODERS) or _first_outputs(behind, PLACEHOLDERS)
    fit = [tensor for tensor in found if _takes_pictures(tensor) and tensor.op in behind]
    if len(fit) == 1:
        return fit[0]
    if layer:
        raise RetrainError(
            f"no picture can enter {name} at {layer}: it is {named.dtype.name} {named.shape}, or behind the output.",
            "Leave --input-layer out, or name the layer that takes a picture.",
        )
    raise RetrainError(
        f"{name} does not say where a picture enters.", _choice("--input-layer", [each.op for each in fit])
    )


def _first_outputs(operations, types):
    return [operation.outputs[0] for operation in operations if operation.type in types]


def _takes_pictures(tensor):
    shape = tensor.shape
    return tensor.dtype in (tf.float32, tf.uint8) and (
        shape.rank is None or (shape.rank in (3, 4) and shape[-1] in (None, 1, 3))
    )


def _preparation(name, entry, options):
    """Function from a decoded picture to what enters there."""
    if entry.op.type in DECODERS:
        return _as_it_is(name, entry, options)
    ours = any(operation.name == OURS for operation in entry.graph.get_operations())
    known = None if ours else options.assumed
    known_side, known_mean, known_std = known or KNOWN.get(entry.op.name) or (None, None, None)
    *_, height, width, _channels = [None] * 4 if entry.shape.rank is None else entry.shape.as_list()
    if options.assumed and height and width:
        options = _of_that_size(name, options, height, width)
    height = options.input_height or height or known_side or options.input_width
    width = options.input_width or width or known_side or height
    mean, std = (0, 1) if entry.dtype == tf.uint8 else (known_mean, known_std)
    mean = mean if options.input_mean is None else options.input_mean
    std = std if options.input_std is None else options.input_std
    if not height:
        raise RetrainError(f"{name} does not say how large pictures at {entry.name} are.", "--input-height tells it.")
    if mean is None or not std:
        raise RetrainError(
            f"{name} does not say which pixels {entry.name} takes.",
            "--input-mean 0 --input-std 255 for pixels of 0 to 1; 128 and 128 for -1 to 1.",
        )

    def prepare(image):
        pixels = _pixels(image, entry)[None].astype(np.float32)
        # The scaling of TensorFlow 1, which today's tf.image.resize no longer is.
        scaled = tf.raw_ops.ResizeBilinear(images=pixels, size=(height, width), half_pixel_centers=False).numpy()
        scaled = (scaled - np.float32(mean)) / np.float32(std)
        return (scaled[0] if entry.shape.rank == 3 else scaled).astype(entry.dtype.as_numpy_dtype)

    return prepare


def _of_that_size(name, options, height, width):
    """Options without another size than the only one that the graph takes: old programs were told that of their own."""
    if (options.input_height or height, options.input_width or width) != (height, width):
        log.warning("%s takes pictures of %d x %d px: no others are given.", name, height, width)
    return replace(options, input_height=None, input_width=None)


def _as_it_is(name, entry, options):
    given = [options.input_height, options.input_width, options.input_mean, options.input_std]
    if any(each is not None for each in given):
        raise RetrainError(
            f"{name} scales pictures itself after {entry.name}.",
            "Leave height, width, mean and standard deviation out, or name an --input-layer that takes scaled pixels.",
        )
    return lambda image: _pixels(image, entry)


def _pixels(image, entry):
    """uint8 (H, W, 3), or (H, W, 1) of gray where that is what is taken."""
    is_gray = entry.shape.rank is not None and entry.shape[-1] == 1
    return np.asarray(image.convert("L"))[..., None] if is_gray else np.asarray(image)


def _behind(operation):
    """The operations that an operation needs, itself among them."""
    left, seen = [operation], {}
    while left:
        each = left.pop()
        if each.name not in seen:
            seen[each.name] = each
            left += [tensor.op for tensor in each.inputs]
    return list(seen.values())


def _find(name, graph, layer):
    """The tensor of a layer's name, with or without `:0`."""
    operation, _, number = layer.partition(":")
    try:
        return graph.get_tensor_by_name(f"{operation}:{number or 0}")
    except (KeyError, ValueError) as error:
        layers = [each.name for each in graph.get_operations() if each.outputs and each.type != "Const"]
        near = get_close_matches(operation, layers, n=3, cutoff=0.4) or layers[-3:]
        raise RetrainError(f"{name} has no layer {layer!r}.", f"It has {', '.join(near)}.") from error


def _choice(option, found):
    return f"{option} names it{': ' + ', '.join(each.name for each in found[:10]) if found else ''}."


def _first_line(error):
    """Of what TensorFlow says, where running a graph failed, behind a heading and where that was."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Graph execution error", "Detected at", "Node: "))]
    return (told or [type(error).__name__])[0].strip()
