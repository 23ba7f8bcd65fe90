"""Everything that needs TensorFlow.  The rest of the package enters here, and only here, when it has to."""

import importlib
import importlib.util
import os

from retrain.errors import RetrainError


def convert_published(spec):
    """(content, suffix) of the file of a registered backbone, made from its published weights; see `freezing`."""
    require()
    from retrain.tf import convert

    return convert.convert_published(spec)


def convert_source(source):
    """(content, suffix) of the file of a network that a user brings; see `freezing`."""
    require()
    from retrain.tf import convert

    return convert.convert_source(source)


def open_graph(spec, content):
    """What runs a network that could not be converted to LiteRT; see `retrain.backbones.runner.open_network`."""
    require()
    from retrain.tf import graphs

    return graphs.open_graph(spec, content)


def open_original(name, content, options):
    """A graph of the original programs, ready to run; see `retrain.tf.original_graphs`."""
    require()
    from retrain.tf import original_graphs

    return original_graphs.OriginalGraph(name, content, options)


def gradient_map(spec, pixels, weights):
    """Grad-CAM of a registered backbone; see `retrain.tf.grad_cam`."""
    require()
    from retrain.tf import grad_cam

    return grad_cam.gradient_map(spec, pixels, weights)


def open_embedder(spec):
    """A registered network that embeds on GPUs; None where TensorFlow finds none.  See `retrain.tf.embedding`."""
    require()
    from retrain.tf import devices, embedding

    return embedding.Embedder(spec) if devices.find_gpus() else None


def open_tuner(spec):
    """A registered network that learns on; see `retrain.tf.fine_tuning`."""
    require()
    from retrain.tf import fine_tuning

    return fine_tuning.Tuner(spec)


def build_retrained_graph(model, final_tensor_name, described):
    """Bytes of `retrained_graph.pb`; see `retrain.tf.retrained_graph`."""
    require()
    from retrain.tf import retrained_graph

    return retrained_graph.build(model, final_tensor_name, described)


def open_retrained_graph(content, final_tensor_name):
    """Functions that run one on pixels and on bytes; see `retrain.tf.retrained_graph`."""
    require()
    from retrain.tf import retrained_graph

    return retrained_graph.open_graph(content, final_tensor_name)


def write_saved_model(model, folder, labels):
    """Write a Model as a SavedModel; see `retrain.tf.exports`."""
    require()
    from retrain.tf import exports

    exports.write_saved_model(model, folder, labels)


def open_saved_model(folder):
    """Functions that run one on pixels and on bytes."""
    require()
    from retrain.tf import exports

    return exports.open_saved_model(folder)


def write_keras_file(model, path):
    """Write a Model as a `.keras` file; see `retrain.tf.exports`."""
    require()
    from retrain.tf import exports

    exports.write_keras_file(model, path)


def open_keras_file(path):
    """Function that runs one on pixels."""
    require()
    from retrain.tf import exports

    return exports.open_keras_file(path)


def write_onnx(model, path, described):
    """Write a Model as an ONNX file; see `retrain.tf.exports`."""
    require()
    from retrain.tf import exports

    exports.write_onnx(model, path, described)


def quantize(backbone):
    """Bytes of a LiteRT file in int8 of a Backbone in float32; see `retrain.tf.quantizing`."""
    require()
    from retrain.tf import quantizing

    return quantizing.quantize(backbone)


def require():
    """Import TensorFlow without its chatter.  Raises RetrainError where it is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise RetrainError(
            "this needs TensorFlow, which is not installed.", "make setup-full, or pip install 'retrain[tf]'."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from retrain.backbones.runner import no_chatter

    with no_chatter():  # what it says while it is imported heeds no level
        importlib.import_module("tensorflow")
