"""Load a network that a user brings, without trusting it: a `.keras` file, a SavedModel, a module of TensorFlow Hub."""

import os
import re
from pathlib import Path

import keras
import tensorflow as tf

from retrain.backbones.files import cache_folder
from retrain.backbones.sources import assumed_pixels
from retrain.errors import RetrainError
from retrain.tf.safety import refuse_keras_file, refuse_saved_model

DEFAULT_SIZE = 224  # px, of networks that take any
# What Keras writes for arithmetic on pixels, in a network that has its preprocessing inside.
ARITHMETIC = {"Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "Add", "GetItem", "Flip"}
# How the networks of keras.applications want their pixels, by the names that they give themselves.
KNOWN_NAMES = {
    r"mobilenet(v2)?_\d|inception|xception|nasnet|resnet\d+v2$": "tf",
    r"resnet\d+$|vgg\d": "caffe",
    r"densenet\d": "torch",
}
OUTPUTS = "default", "feature_vector", "embeddings", "outputs", "output_0"  # in the order of their liking
TORCH_MEAN, TORCH_SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of RGB, torchvision's times 255
CAFFE_MEAN = (103.939, 116.779, 123.68)  # of BGR


def open_source(source):
    """(network, px) of a Source: a function of images float32 (1, px, px, 3) of 0-255.  Raises RetrainError."""
    if source.kind == "keras":
        return _keras_file(source)
    path = _fetched(source.place) if source.is_handle else Path(source.place)
    return _saved_model(source, path)


def entering(images, pixels):
    """images float32 (N, H, W, 3) of 0-255 in another way, a key of `retrain.backbones.sources.PIXELS`."""
    if pixels == "unit":
        return images / 255.0
    if pixels == "tf":
        return images / 127.5 - 1.0
    if pixels == "torch":
        return (images - TORCH_MEAN) / TORCH_SCALE
    if pixels == "caffe":
        return images[..., ::-1] - CAFFE_MEAN
    return images


def _keras_file(source):
    refuse_keras_file(source.place)
    try:
        model = keras.saving.load_model(source.place, compile=False, safe_mode=True)
        embedder = _without_classifier(model)
        (entry,) = embedder.inputs
    except Exception as error:  # Keras raises all kinds
        raise RetrainError(
            f"{source.name} cannot be loaded: {_first_line(error)}",
            "It must be a network of Keras' own layers with one input, saved by Keras 3.",
        ) from error
    size = _size(source, entry.shape)
    pixels = source.pixels or _pixels_of(source, model)
    return (lambda images: embedder(entering(images, pixels), training=False)), size


def _without_classifier(model):
    """The network up to its last layer with weights, where that one tells classes."""
    last, *before = reversed(model.layers)
    if _gives_probabilities(last):
        classes = next(layer for layer in (last, *before) if hasattr(layer, "kernel"))
        return keras.Model(model.inputs[0], classes.input)
    return model


def _gives_probabilities(layer):
    told = getattr(layer, "activation", None) in (keras.activations.softmax, keras.activations.sigmoid)
    return told or isinstance(layer, keras.layers.Softmax)


def _pixels_of(source, model):
    """How a Keras network wants its pixels: as its first layers or its name say, else 0-1 with a warning."""
    names = [model.name]
    for layer in _leaves(model, names):
        if type(layer).__name__ in ARITHMETIC:
            return "raw"
        if hasattr(layer, "kernel"):
            break
    for name in names:
        for pattern, pixels in KNOWN_NAMES.items():
            if re.match(pattern, name):
                return pixels
    return assumed_pixels(source)


def _leaves(model, names):
    """Yield the layers of a network and of those inside it, in order; adds the names of those to `names`."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            names.append(layer.name)
            yield from _leaves(layer, names)
        else:
            yield layer


def _saved_model(source, path):
    refuse_saved_model(path)
    try:
        # A module of TensorFlow 1's Hub keeps what is to be used under no tag.
        loaded = tf.saved_model.load(str(path), tags=[] if (path / "tfhub_module.pb").exists() else None)
        call, shape = _called(loaded)
    except Exception as error:  # a damaged one may raise anything
        if isinstance(error, RetrainError):
            raise
        raise RetrainError(f"{source.name} cannot be loaded: {_first_line(error)}", "Fetch it again.") from error
    pixels = source.pixels or "unit"  # which is what TensorFlow Hub asks of all

    def network(images):
        return _vector(call(loaded, entering(images, pixels)))

    return network, _size(source, shape)


def _called(loaded):
    """(function of a SavedModel and images, shape that it takes)."""
    if callable(loaded):
        return _call, loaded.__call__.concrete_functions[0].structured_input_signature[0][0].shape
    name = next((name for name in ("default", "serving_default") if name in loaded.signatures), None)
    if name is None:
        found = ", ".join(loaded.signatures) or "none"
        raise RetrainError(f"it has no signature to call (it has {found}).", "It needs `default` or `serving_default`.")
    ((entry, spec),) = loaded.signatures[name].structured_input_signature[1].items()
    return (lambda loaded, images: loaded.signatures[name](**{entry: images})), spec.shape


def _call(loaded, images):
    try:
        return loaded(images, training=False)
    except (TypeError, ValueError):  # it does not tell training from use
        return loaded(images)


def _vector(outputs):
    """The one output that counts."""
    if not isinstance(outputs, dict):
        return outputs
    name = next((name for name in OUTPUTS if name in outputs), None)
    if name is None and len(outputs) != 1:
        raise RetrainError(f"it has the outputs {', '.join(outputs)}.", f"One of them must be named {OUTPUTS[0]}.")
    return outputs[name or next(iter(outputs))]


def _size(source, shape):
    """px of the pictures that enter.  shape: of the input, with None where it is free."""
    _, height, width, channels = shape if len(shape) == 4 else (None, 0, 0, 0)
    if channels not in (3, None) or height != width:
        raise RetrainError(f"{source.name} takes {tuple(shape)}, which are no square pictures.", "Choose another one.")
    if height and source.size not in (None, height):
        raise RetrainError(f"{source.name} takes pictures of {height} px and no others.", "Leave ,size= out.")
    return height or source.size or DEFAULT_SIZE


def _fetched(handle):
    """Folder of a module of TensorFlow Hub, out of its cache or downloaded."""
    if not handle.startswith("https://"):
        raise RetrainError(f"{handle} is no handle that can be trusted.", "It begins with https://, or is a folder.")
    os.environ.setdefault("TFHUB_CACHE_DIR", str(cache_folder() / "hub"))  # else it lies where everybody may write
    try:
        import tensorflow_hub
    except ImportError as error:
        raise RetrainError(
            f"tensorflow-hub, which fetches {handle}, cannot be imported: {error}.",
            "pip install tensorflow-hub 'setuptools<81', or unpack the module and name its folder: hub:FOLDER.",
        ) from error
    try:
        return Path(tensorflow_hub.resolve(handle))
    except Exception as error:  # urllib's, tarfile's, its own
        raise RetrainError(
            f"{handle} cannot be fetched: {_first_line(error)}",
            "Fetch and unpack it elsewhere, and name its folder: hub:FOLDER.",
        ) from error


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
