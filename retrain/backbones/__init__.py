"""Pretrained networks that turn pictures into embeddings: what there is, where it comes from, how to run it."""

from retrain.backbones.files import generic_mean
from retrain.backbones.registry import BACKBONES, BackboneSpec, find_spec
from retrain.backbones.runner import Backbone, load_backbone

__all__ = ["BACKBONES", "Backbone", "BackboneSpec", "find_spec", "generic_mean", "load_backbone"]
