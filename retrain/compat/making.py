"""make_image_classifier.py: TensorFlow Hub's tool, by whose flags `retrain train` and its exports are called."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from retrain import progress
from retrain.compat.flags import parser_of, read
from retrain.compat.retraining import BACKBONE
from retrain.dataset import require_new_folder
from retrain.errors import RetrainError
from retrain.exports import load_format
from retrain.exports.describing import Subject, describe
from retrain.model import load_model
from retrain.options import TrainOptions, default_model_dir
from retrain.recipes.training import train
from retrain.tf import require, write_hub_model

MODULE = "https://tfhub.dev/google/tf2-preview/mobilenet_v2/feature_vector/4"
SEED, SHARE = 123, 0.2  # by default
USED = {
    "image_dir": (str, "", "Folder with a folder of pictures a class."),
    "tfhub_module": (str, MODULE, "A module of TensorFlow Hub, or a network that `retrain backbones` lists."),
    "saved_model_dir": (str, "", "Where a SavedModel goes; a new or empty folder."),
    "tflite_output_file": (str, "", "Where a LiteRT file goes."),
    "labels_output_file": (str, "", "Where the labels go."),
    "summaries_dir": (str, "", "Where the event files for TensorBoard go, of fine-tuning."),
    "assert_accuracy_at_least": (float, None, "Fail below this accuracy."),
    "validation_split": (float, SHARE, "Share of the pictures kept back to measure."),
    "seed": (int, SEED, "Deals the folds of cross-validation."),
    "do_fine_tuning": (lambda text: text.lower() not in ("false", "0", "no"), False, "Let the network learn on."),
}
# What its optimizer was told; our head is fitted to its end, and has no use for it.
PASSED_OVER = [
    "image_size", "train_epochs", "batch_size", "learning_rate", "momentum", "dropout_rate", "set_memory_growth",
    "l1_regularizer", "l2_regularizer", "label_smoothing", "do_data_augmentation", "rotation_range", "horizontal_flip",
    "width_shift_range", "height_shift_range", "shear_range", "zoom_range", "distribution_strategy",
    "use_tf_data_input",
]  # fmt: skip

log = logging.getLogger("retrain")


def make_image_classifier(argv):
    """Train on a folder, and write what its flags ask for.  Returns the exit code."""
    parser = parser_of("make_image_classifier.py", "Teach a model the classes of a folder of pictures.")
    for name, (kind, default, text) in USED.items():
        # True and False as absl had them: --flag, --flag=false, --noflag.
        alone: dict[str, Any] = {"nargs": "?", "const": True} if default is False else {}
        parser.add_argument(f"--{name}", type=kind, default=default, help=text, **alone)
    parser.add_argument("--nodo_fine_tuning", dest="do_fine_tuning", action="store_false")
    for name in PASSED_OVER:
        parser.add_argument(f"--{name}", f"--no{name}", nargs="?", const="", help="Of old; does nothing.")
    flags = read(parser, argv)
    given = [f"--{name}" for name in PASSED_OVER if getattr(flags, name) is not None]
    if given:
        log.warning("%s: passed over, for the head is fitted to its end.", ", ".join(given))
    return _make(flags)


def _make(flags):
    if not flags.image_dir:
        raise RetrainError("Must set flag --image_dir.", "It names the folder with a folder of pictures a class.")
    if not 0 <= flags.validation_split <= 0.9:
        raise RetrainError(f"--validation_split is {flags.validation_split}.", "Give 0 to 0.9.")
    if flags.saved_model_dir:
        require_new_folder(Path(flags.saved_model_dir))
    if flags.saved_model_dir or flags.tflite_output_file:
        require()
    model_dir = _place_of(flags)
    options = TrainOptions(
        model_dir=model_dir, backbone=_backbone_of(flags), test_share=flags.validation_split, seed=flags.seed,
        fine_tune=flags.do_fine_tuning, log_dir=flags.summaries_dir or None,
    )  # fmt: skip
    with progress.shown():
        result = train(flags.image_dir, options)
    _write(load_model(model_dir), model_dir, flags)
    print(f"Accuracy = {100 * result['accuracy']:.1f}% (N={result['test_images']})")
    wanted = flags.assert_accuracy_at_least
    if wanted is not None and not result["accuracy"] >= wanted:
        raise RetrainError(f"the accuracy is {result['accuracy']:.4f}, below {wanted}.", "Add or clean pictures.")
    return 3 if result["skipped"] else 0


def _place_of(flags):
    """Folder of our own model: beside what is written, as nobody asked for it."""
    written = [flags.saved_model_dir, flags.tflite_output_file, flags.labels_output_file]
    return next((Path(place).parent / "model" for place in written if place), default_model_dir())


def _backbone_of(flags):
    if flags.tfhub_module == MODULE:
        return BACKBONE
    return f"hub:{flags.tfhub_module}" if "://" in flags.tfhub_module else flags.tfhub_module


def _write(model, model_dir, flags):
    labels = "".join(f"{label}\n" for label in model.classes)
    if flags.labels_output_file:
        _in_its_folder(flags.labels_output_file).write_text(labels)
    if flags.saved_model_dir:
        write_hub_model(model, flags.saved_model_dir)
    if flags.tflite_output_file:
        path, module = _in_its_folder(flags.tflite_output_file), load_format("tflite")
        with tempfile.TemporaryDirectory(prefix=".retrain-", dir=path.parent) as scratch:
            module.write(Subject(model, model_dir, describe(model)), Path(scratch))
            (Path(scratch) / module.FILE).replace(path)


def _in_its_folder(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)
