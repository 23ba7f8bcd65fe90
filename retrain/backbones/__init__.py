"""Pretrained networks that turn pictures into embeddings: what there is, where it comes from, how to run it."""

from retrain.backbones.registry import BACKBONES, BackboneSpec, find_spec
from retrain.backbones.runner import Backbone, load_backbone

__all__ = ["BACKBONES", "Backbone", "BackboneSpec", "find_spec", "load_backbone"]
