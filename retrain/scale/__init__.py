"""Files turned into embeddings one after another, by this machine or by a Ray cluster: any number in bounded memory."""

from retrain.errors import require_known
from retrain.options import ENGINES
from retrain.scale.classifier import SpreadClassifier
from retrain.scale.local import embed_locally
from retrain.scale.places import Reader

__all__ = ["is_plain", "open_embedding", "spread"]


def open_embedding(options):
    """Function (names, backbones, reader) → rows in order, by the engine that the options name.

    Raises RetrainError where there is no Ray, or no cluster answers.
    """
    require_known("engine", options.engine, ENGINES)
    if options.engine == "local":
        return embed_locally
    from retrain.scale.cluster import open_cluster

    return open_cluster(options.address)


def is_plain(options, reader):
    """Whether this machine computes, and of its own files."""
    return options.engine == "local" and not (reader and reader.stores)


def spread(classifier, options, reader=None):
    """The classifier, its guessing done by the engine that the options name.  reader: of files not on this machine."""
    if is_plain(options, reader):
        return classifier
    return SpreadClassifier(classifier, open_embedding(options), reader or Reader())
