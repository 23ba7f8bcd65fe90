"""Embeddings of a whole set of files, in memory, by the engine that the options name."""

import numpy as np

from retrain.bottlenecks import Embedded, Store, embed_files
from retrain.scale import is_plain, open_embedding
from retrain.scale.places import Reader


def embed_set(paths, backbones, options, store_path, reader=None):
    """As `retrain.bottlenecks.embed_files`; a cluster makes no thumbnails.  reader: of files not on this machine."""
    if is_plain(options, reader):
        with Store(store_path) as store:
            return embed_files(paths, backbones, store)
    rows = list(open_embedding(options)(map(str, paths), backbones, reader or Reader()))
    kept = [number for number, row in enumerate(rows) if not row.error]
    sizes = [backbone.spec.embedding_size for backbone in backbones]
    joined = np.empty((len(kept), sum(sizes)), np.float32)
    for place, number in enumerate(kept):
        np.concatenate(rows[number].parts, out=joined[place])
    skipped = [(paths[number], row.error) for number, row in enumerate(rows) if row.error]
    nothing = np.empty((len(kept), 0), np.uint8)
    return Embedded(kept, [rows[number].digest for number in kept], joined, sizes, nothing, [], skipped, len(kept))
