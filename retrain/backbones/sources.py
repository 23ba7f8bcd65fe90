"""Networks that users bring: a `.keras` or `.tflite` file, a SavedModel folder, a module of TensorFlow Hub."""

import hashlib
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.backbones.files import find_cached, keep
from retrain.backbones.registry import SIZES, BackboneSpec
from retrain.backbones.runner import FEATURE_MAP, POOLED, SUFFIXES, Backbone, open_network
from retrain.errors import RetrainError, require_known

# How a network wants its pixels: (pixel - mean) / scale; torch and caffe go by channel.
PIXELS = {"raw": (0.0, 1.0), "unit": (0.0, 255.0), "tf": (127.5, 127.5), "torch": None, "caffe": None}
HUB = "hub:"
FILES = {".keras": "keras", ".tflite": "tflite"}
OTHERS = {".h5", ".hdf5", ".onnx", ".pb", ".pt", ".pth", ".safetensors"}
UNNAMED = "see where it is from"

log = logging.getLogger("retrain")


@dataclass(frozen=True)
class Source:
    """What a user asked for, such as `nets/flowers.keras,size=160,pixels=tf`."""

    name: str  # without the folders, and with its options
    kind: str  # keras | tflite | saved_model
    place: str  # path or handle
    size: int | None = None  # px; None: as the network says, or 224
    pixels: str | None = None  # a key of PIXELS; None: as the network says

    @property
    def is_handle(self):
        return "://" in self.place


def names_of(backbones):
    """The names joined by +, which may also stand in a path."""
    return [backbones] if is_source(backbones) and Path(_place(backbones)).exists() else backbones.split("+")


def is_source(name):
    """Whether that is the name of a network that users bring."""
    return name.startswith(HUB) or Path(_place(name)).suffix.lower() in FILES.keys() | OTHERS


def load_source(name, as_graph=False):
    """Backbone of a file, folder or handle: converted to LiteRT once, and then kept in the cache.

    as_graph: frozen instead, so that it can become a part of a graph; TensorFlow then runs it.
    """
    source = parse(name)
    spec = BackboneSpec(
        source.name, source.kind, "float32", 0, "", Path(source.place).name, embedding_size=0, mean=0.0, scale=1.0,
        licence=UNNAMED, paper=UNNAMED, source_sha256=_digest(source),
    )  # fmt: skip
    if source.kind == "tflite":
        if as_graph:
            raise RetrainError(f"{source.name} cannot become a part of a graph.", "Choose a SavedModel or .keras file.")
        return _describe(spec, Path(source.place).read_bytes(), source)
    kept = replace(spec, name=f"{spec.name}-graph") if as_graph else spec
    path = find_cached(kept) or _convert(kept, source, as_graph)
    runtime = {suffix: runtime for runtime, suffix in SUFFIXES.items()}[path.suffix]
    return _describe(replace(spec, runtime=runtime), path.read_bytes(), source)


def parse(name):
    """Source of a name.  Raises RetrainError where its options or its kind are unknown."""
    place, options = _place(name), dict(re.findall(r",(size|pixels)=([^,]*)", name[len(_place(name)) :]))
    if "pixels" in options:
        require_known("way of pixels", options["pixels"], PIXELS)
    size = options.get("size")
    if size is not None and not (size.isascii() and size.isdigit() and int(size) in SIZES):
        raise RetrainError(f"{name} asks for pictures of {size} px.", f"Give {SIZES[0]} to {SIZES[-1]}.")
    suffix, is_hub = Path(place).suffix.lower(), name.startswith(HUB)
    if not is_hub and suffix not in FILES:
        raise RetrainError(
            f"{place} is a {suffix} file, which retrain does not read.",
            "Save the network as .keras, .tflite or a SavedModel folder (hub:FOLDER).",
        )
    kind = "saved_model" if is_hub else FILES[suffix]
    shown = f"{HUB if is_hub else ''}{place if '://' in place else Path(place).name}"
    shown += "".join(f",{key}={value}" for key, value in sorted(options.items()))
    return Source(shown, kind, place, size and int(size), options.get("pixels"))


def assumed_pixels(source):
    """How pixels enter a network that does not say it: with a warning."""
    log.warning(
        "%s does not say how it wants its pixels: taken for 0-1. With ,pixels=raw after its name they are 0-255, with "
        ",pixels=tf -1-1.", source.name,
    )  # fmt: skip
    return "unit"


def _place(name):
    """The path or handle in a name."""
    return re.sub(r"(,(size|pixels)=[^,]*)*$", "", name.removeprefix(HUB))


def _digest(source):
    """sha256 of a file, or of all files of a folder with their names; a handle has its version in its name."""
    if source.is_handle:
        return hashlib.sha256(source.place.encode()).hexdigest()
    path, digest = Path(source.place), hashlib.sha256()
    if path.is_dir() != (source.kind == "saved_model"):
        wanted = "a folder with a SavedModel inside" if source.kind == "saved_model" else "a file"
        raise RetrainError(
            f"{path} is not {wanted}.", "Check the path; a handle of TensorFlow Hub begins with https://."
        )
    try:
        if source.kind != "saved_model":
            return hashlib.sha256(path.read_bytes()).hexdigest()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            with file.open("rb") as stream:
                inner = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.relative_to(path).as_posix()}\0{inner}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise RetrainError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    return digest.hexdigest()


def _convert(spec, source, as_graph):
    from retrain.tf import convert_source

    return keep(spec, *convert_source(source, as_graph))


def _describe(spec, content, source):
    """Backbone with what the file says of itself.  Raises RetrainError where it is no network for pictures."""
    try:
        network = open_network(spec, content)
    except RetrainError as error:
        raise RetrainError(str(error), "Choose another file: only LiteRT's own operations can run.") from error
    _, height, width, channels = network.shape if len(network.shape) == 4 else (0, 0, 0, 0)
    if channels != 3 or height != width or height not in SIZES or network.dtype not in (np.float32, np.uint8, np.int8):
        raise RetrainError(
            f"{spec.name} takes {np.dtype(network.dtype).name} {network.shape}, which are no square pictures.",
            f"It must take float32, uint8 or int8 (1, N, N, 3) with N from {SIZES[0]} to {SIZES[-1]}.",
        )
    if source.kind == "tflite" and source.size not in (None, height):
        raise RetrainError(f"{spec.name} takes pictures of {height} px and no others.", "Leave ,size= out.")
    if POOLED not in network.sizes:
        raise RetrainError(f"{spec.name} gives no vector (1, D).", "Choose a network that ends in one.")
    if network.sizes.get(FEATURE_MAP, network.sizes[POOLED]) != network.sizes[POOLED]:
        raise RetrainError(f"{spec.name} gives a map that is not of its vector.", "Choose a network without it.")
    mean, scale = _pixels(network, source)
    spec = replace(
        spec, image_size=height, embedding_size=network.sizes[POOLED], mean=mean, scale=scale,
        precision="float32" if network.dtype == np.float32 else "int8",
    )  # fmt: skip
    return Backbone(spec, content)


def _pixels(network, source):
    """(mean, scale) of what enters a file."""
    if source.kind != "tflite" or network.dtype != np.float32:
        return PIXELS["raw"]  # a file that we made has its own preprocessing inside
    values = PIXELS[source.pixels or assumed_pixels(source)]
    if values is None:
        raise RetrainError(f"a .tflite file cannot have pixels={source.pixels}.", "It can have raw, unit or tf.")
    return values
