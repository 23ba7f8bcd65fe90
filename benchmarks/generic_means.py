"""python -m benchmarks.generic_means: make the shipped means anew, from half of RETRAIN_TEST_DATA/imagenet.

The other half measures what they are worth (`python -m benchmarks odd`).
"""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np

from retrain.backbones import load_backbone
from retrain.backbones.files import GENERIC_MEANS, SHIPPED
from retrain.bottlenecks import Store, embed_files
from retrain.recipes.odd_one_out import BACKBONES
from retrain.unknown import features


def halves(folder):
    """Photos to choose with, and photos to report on."""
    photos = sorted(Path(folder).glob("*.jpg"))
    return photos[::2], photos[1::2]


def main():
    photos, _ = halves(Path(os.environ["RETRAIN_TEST_DATA"], "imagenet"))
    with Store(None) as store:
        parts = embed_files(photos, [load_backbone(name) for name in BACKBONES], store).embeddings
    means = {name: features(part).mean(axis=0).astype(np.float16) for name, part in zip(BACKBONES, parts, strict=True)}
    np.savez(str(SHIPPED / GENERIC_MEANS), **means)
    print(hashlib.sha256((SHIPPED / GENERIC_MEANS).read_bytes()).hexdigest())


if __name__ == "__main__":
    sys.exit(main())
