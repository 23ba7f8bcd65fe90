"""Run a frozen graph: the file of a network that LiteRT cannot run."""

import tensorflow as tf

from retrain.backbones.runner import FEATURE_MAP, POOLED
from retrain.errors import RetrainError
from retrain.tf.safety import refuse_graph

OUTPUTS = {POOLED: "embeddings:0", FEATURE_MAP: "feature_map:0"}


def open_graph(spec, content):
    """Network of the bytes of a GraphDef; see `read_graph`."""
    graph = read_graph(spec, content)
    try:
        return _Network(graph)
    except Exception as error:  # a damaged graph may raise anything
        raise _does_not_run(spec, error) from error


def read_graph(spec, content):
    """GraphDef of a backbone's file; a stranger's may read and write no files.  Raises RetrainError."""
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(content)
        refuse_graph(spec.name, graph)
    except RetrainError:
        raise
    except Exception as error:
        raise _does_not_run(spec, error) from error
    return graph


def _does_not_run(spec, error):
    return RetrainError(f"the file of backbone {spec.name} does not run: {error}.", "Train again.")


class _Network:
    def __init__(self, graph):
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
        names = {node.name for node in graph.node}
        self._outputs = {size: name for size, name in OUTPUTS.items() if name.removesuffix(":0") in names}
        tensors = [wrapped.graph.get_tensor_by_name(name) for name in self._outputs.values()]
        entry = wrapped.graph.get_tensor_by_name("images:0")
        self._run = wrapped.prune(entry, tensors)
        self.shape, self.dtype = tuple(entry.shape.as_list()), entry.dtype.as_numpy_dtype
        self.sizes = {size: tensor.shape[-1] for size, tensor in zip(self._outputs, tensors, strict=True)}

    def run(self, images, dimensions):
        found = dict(zip(self._outputs, self._run(tf.constant(images)), strict=True))
        return [found[size][0].numpy() if size in found else None for size in dimensions]
