"""Files turned into embeddings one after another, by this machine or by a Ray cluster: any number in bounded memory."""

import numpy as np

from retrain.bottlenecks import Embedded, Store, embed_files
from retrain.errors import require_known
from retrain.options import ENGINES
from retrain.scale.classifier import SpreadClassifier
from retrain.scale.local import embed_locally
from retrain.scale.places import Reader

__all__ = ["embed_set", "open_embedding", "spread"]


def open_embedding(options):
    """Function (names, backbones, reader) → rows in order, by the engine that the options name.

    Raises RetrainError where there is no Ray, or no cluster answers.
    """
    require_known("engine", options.engine, ENGINES)
    if options.engine == "local":
        return embed_locally
    from retrain.scale.cluster import open_cluster

    return open_cluster(options.address)


def spread(classifier, options, reader=None):
    """The classifier, its guessing done by the engine that the options name.  reader: of files not on this machine."""
    if options.engine == "local" and not (reader and reader.filesystems):
        return classifier
    return SpreadClassifier(classifier, open_embedding(options), reader or Reader())


def embed_set(paths, backbones, options, store_path, reader=None):
    """As `retrain.bottlenecks.embed_files`, by the engine that the options name; Ray makes no thumbnails."""
    if options.engine == "local" and not (reader and reader.filesystems):
        with Store(store_path) as store:
            return embed_files(paths, backbones, store)
    rows = list(open_embedding(options)(map(str, paths), backbones, reader or Reader()))
    kept = [number for number, row in enumerate(rows) if not row.error]
    embeddings = [
        np.array([rows[number].parts[part] for number in kept], np.float32).reshape(-1, backbone.spec.embedding_size)
        for part, backbone in enumerate(backbones)
    ]
    skipped = [(paths[number], row.error) for number, row in enumerate(rows) if row.error]
    nothing = np.empty((len(kept), 0), np.uint8)
    return Embedded(kept, [rows[number].digest for number in kept], embeddings, nothing, [], skipped, len(kept))
