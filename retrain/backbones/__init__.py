"""Pretrained networks that turn pictures into embeddings: what there is, where it comes from, how to run it."""

from dataclasses import replace

from retrain.backbones.files import generic_mean, network_file
from retrain.backbones.registry import APPLICATIONS, BACKBONES, BackboneSpec, find_spec
from retrain.backbones.runner import SUFFIXES, Backbone
from retrain.backbones.sources import is_source, load_source, names_of

__all__ = [
    "APPLICATIONS", "BACKBONES", "Backbone", "BackboneSpec", "find_spec", "generic_mean", "is_source", "load_backbone",
    "names_of",
]  # fmt: skip


def load_backbone(name, as_graph=False):
    """Backbone of a registered name, or of what a user brings; its file shipped, cached or built now.

    as_graph: such that `retrained_graph.pb` can be written of a model with it, which the registered ones are anyway.
    """
    if is_source(name):
        return load_source(name, as_graph)
    spec = find_spec(name)
    path = network_file(spec)
    runtime = next(runtime for runtime, suffix in SUFFIXES.items() if suffix == path.suffix)
    return Backbone(spec if runtime == spec.runtime else replace(spec, runtime=runtime), path.read_bytes())
