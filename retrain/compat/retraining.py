"""retrain.py: transfer learning as the original did it, by its flags, with its log lines and outputs."""

import logging
import os
import re
from contextlib import ExitStack
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path

import numpy as np

import retrain
from retrain.backbones import load_backbone
from retrain.compat.flags import parser_of, read
from retrain.compat.pictures import Distortion, Pictures, embed_distorted, find_pictures, write_bottlenecks
from retrain.compat.sgd import Layer, Sampler
from retrain.dataset import TESTING, TRAINING, VALIDATION, legacy_labels, require_new_folder
from retrain.errors import RetrainError, require_known
from retrain.exports.pb import require_name, write_graph
from retrain.head import Head, few_threads, require_scikit_learn
from retrain.model import Model, check_writable, learned_marks, save_model
from retrain.options import RetrainOptions, TrainOptions
from retrain.recipes.training import TOLD_ELSEWHERE
from retrain.tf import open_summaries, require, write_checkpoint, write_hub_model

FLAGS = {
    "image_dir": "Folder with a folder of pictures a class.",
    "output_graph": "Where the trained graph goes.",
    "intermediate_output_graphs_dir": "Beginning of the paths of the intermediate graphs.",
    "intermediate_store_frequency": "How many steps there are between intermediate graphs; 0: there are none.",
    "output_labels": "Where the labels go.",
    "summaries_dir": "Where the event files for TensorBoard go.",
    "how_many_training_steps": "How many steps to learn.",
    "learning_rate": "How large the steps are.",
    "testing_percentage": "Percent of the pictures kept back to test.",
    "validation_percentage": "Percent of the pictures kept back to validate.",
    "eval_step_interval": "How many steps there are between evaluations.",
    "train_batch_size": "How many pictures to learn from in a step; below 0: all.",
    "test_batch_size": "How many pictures to test on at the end; below 0: all.",
    "validation_batch_size": "How many pictures to validate on; below 0: all.",
    "print_misclassified_test_images": "List the test pictures that are guessed wrong.",
    "bottleneck_dir": "Where the embeddings are kept.",
    "final_tensor_name": "Name of the output in the graph.",
    "flip_left_right": "Mirror half of the pictures learned, at random.",
    "random_crop": "Percent by which to cut the pictures learned, at random.",
    "random_scale": "Percent by which to enlarge the pictures learned, at random.",
    "random_brightness": "Percent by which to change the brightness of the pictures learned, at random.",
    "tfhub_module": "A module of TensorFlow Hub, or a network that `retrain backbones` lists.",
    "saved_model_dir": "Where a SavedModel goes; a new or empty folder.",
    "logging_verbosity": "DEBUG, INFO, WARN, ERROR or FATAL.",
    "checkpoint_path": "Where the weights of the layer go.",
    "model_dir": "Of old; the network is not kept there any more.",
    "architecture": "Of old: inception_v3 or mobilenet_1.0_224 and the like.",
}
LEVELS = {"DEBUG": "DEBUG", "INFO": "INFO", "WARN": "WARNING", "ERROR": "ERROR", "FATAL": "CRITICAL"}
BACKBONE = "efficientnet-lite0-float32"  # what stands for the original's Inception v3
MOBILENET = re.compile(r"mobilenet_(1\.0|0\.75|0\.50|0\.25)_(224|192|160|128)(_quantized)?")
WHOLE = -1  # batch

log = logging.getLogger("retrain")


def main(argv):
    """Run retrain.py.  Returns the exit code: 3 where it passed over pictures that the original would have died of."""
    parser = parser_of("retrain.py", "Teach a new last layer the classes of a folder of pictures.")
    for field in fields(RetrainOptions):
        kind = {"action": "store_true"} if field.type is bool else {"type": field.type, "default": field.default}
        parser.add_argument(f"--{field.name}", help=FLAGS[field.name], **kind)
    options = RetrainOptions(**vars(read(parser, argv)))
    log.setLevel(LEVELS.get(options.logging_verbosity, "INFO"))
    return 3 if retrain_layer(options).failed else 0


def retrain_layer(options):
    """Train by the original's flags, write all that it wrote, and a model of ours beside the graph.

    Returns the Pictures.  Raises RetrainError, before any work where an option is at fault.
    """
    _require_sound(options)
    require_scikit_learn()
    require()
    model_dir = _prepare_places(options)
    backbone = load_backbone_of(options)
    pictures = find_pictures(
        options.image_dir, backbone, options.bottleneck_dir, options.validation_percentage, options.testing_percentage
    )
    write_bottlenecks(options.bottleneck_dir, pictures)
    training = _Training(options, pictures)
    training.run()
    model = training.to_model()
    log.info("Save final result to : %s", options.output_graph)
    write_graph(model, options.output_graph, options.final_tensor_name)
    Path(options.output_labels).write_text("\n".join(legacy_labels(model.classes)) + "\n")
    if options.saved_model_dir:
        write_hub_model(model, options.saved_model_dir)
    if model_dir:
        save_model(model, model_dir)
    return pictures


def load_backbone_of(options):
    """Backbone of --tfhub_module or --architecture.

    The module that was there by default stands for whatever is good: here the network of this package.  Any other
    module is an address, and has to be had; an architecture that cannot be had is replaced, with a warning.
    """
    name = options.tfhub_module
    if name not in ("", RetrainOptions.tfhub_module):
        return load_backbone(f"hub:{name}" if "://" in name or Path(name).is_dir() else name, as_graph=True)
    if not options.architecture:
        log.info("The network is %s of this package; --tfhub_module or --architecture chooses another.", BACKBONE)
        return load_backbone(BACKBONE)
    wanted = _application_of(options.architecture)
    try:
        if wanted is None:
            raise RetrainError("Keras has no weights of it.")
        return load_backbone(wanted)
    except RetrainError as error:
        log.warning("%s is used in the place of %s: %s", BACKBONE, options.architecture, error)
        return load_backbone(BACKBONE)


def _application_of(architecture):
    """Name of the network of Keras; None where it is known and not there."""
    if architecture == "inception_v3":
        return "keras:InceptionV3"
    match = MOBILENET.fullmatch(architecture)
    if not match:
        raise RetrainError(
            f"there is no architecture {architecture!r}.",
            "It may be inception_v3, or mobilenet_ with 1.0, 0.75, 0.50 or 0.25, _ and 224, 192, 160 or 128.",
        )
    return f"keras:MobileNet,size={match[2]}" if match[1] == "1.0" else None


def _require_sound(options):
    """Raise RetrainError on flags that mean nothing."""
    require_known("logging verbosity", options.logging_verbosity, LEVELS)
    require_name(options.final_tensor_name)
    if not options.image_dir:
        raise RetrainError("Must set flag --image_dir.", "It names the folder with a folder of pictures a class.")
    if not os.path.isdir(options.image_dir):  # noqa: PTH112 - a path too long is none, too
        raise RetrainError(
            f"Image directory '{options.image_dir}' not found.", "It holds a folder of pictures a class."
        )
    shares = options.testing_percentage, options.validation_percentage
    if min(shares) < 0 or sum(shares) >= 100:
        raise RetrainError(
            "--testing_percentage and --validation_percentage leave nothing to learn from.",
            "Give 0 or more each, and less than 100 together.",
        )
    for name, least in [("eval_step_interval", 1), ("random_crop", 0), ("random_scale", 0), ("random_brightness", 0)]:
        if getattr(options, name) < least:
            raise RetrainError(f"--{name} is {getattr(options, name)}.", f"Give {least} or more.")
    for name in ("train_batch_size", "test_batch_size", "validation_batch_size"):
        if getattr(options, name) == 0:
            raise RetrainError(f"--{name} is 0.", "Give 1 or more, or -1 for all.")
    if not 0 < options.learning_rate < float("inf"):
        raise RetrainError(f"--learning_rate is {options.learning_rate}.", "Give a number above 0, such as 0.01.")


def _prepare_places(options):
    """Make the folders that files go to.  Returns where the model goes, or None where others' files lie there.

    Raises RetrainError now rather than after the training.
    """
    files = [options.output_graph, options.output_labels, options.checkpoint_path]
    if options.intermediate_store_frequency > 0:
        files.append(options.intermediate_output_graphs_dir + "intermediate_1.pb")
    for path in map(Path, files):
        if path.is_dir():
            raise RetrainError(f"{path} is a folder.", "Name a file.")
        path.parent.mkdir(parents=True, exist_ok=True)
    for path in (Path(options.bottleneck_dir), Path(options.summaries_dir)):
        if path.exists() and not path.is_dir():
            raise RetrainError(f"{path} is no folder.", "Name a folder.")
    if options.saved_model_dir:
        require_new_folder(Path(options.saved_model_dir))
    model_dir = Path(options.output_graph).parent / "model"
    try:
        check_writable(model_dir)
    except RetrainError as error:
        log.warning("No model for retrain guess is written: %s", error)
        return None
    return model_dir


class _Training:
    """The layer, and what it learns from."""

    def __init__(self, options, pictures: Pictures):
        self.options, self.pictures = options, pictures
        self.random = np.random.default_rng(0)  # the original had no seed; with one, the same pictures give the same
        self.samplers = {
            part: Sampler(pictures.labels, pictures.rows(part), self.random) for part in (TRAINING, VALIDATION, TESTING)
        }
        self.distortion = Distortion(
            options.flip_left_right, options.random_crop, options.random_scale, options.random_brightness
        )
        self.layer = Layer.draw(pictures.features.shape[1], len(pictures.dataset.classes), self.random)
        self.accuracy: float | None = None
        self.tested = 0

    def run(self):
        for part in (VALIDATION, TESTING):
            if not len(self.samplers[part]):
                log.warning("There are no pictures in the category %s: nothing is measured there.", part)
        with few_threads(0), ExitStack() as stack:
            summaries = {}
            for part in ("train", "validation"):
                summaries[part] = open_summaries(Path(self.options.summaries_dir) / part)
                stack.callback(summaries[part].close)
            for step in range(self.options.how_many_training_steps):
                self._step(step, summaries)
        write_checkpoint(self.options.checkpoint_path, self._variables())
        self._test()

    def _step(self, step, summaries):
        options = self.options
        features, labels = self._draw_batch()
        self.layer.step(features, labels, options.learning_rate)
        last = step + 1 == options.how_many_training_steps
        if step % options.eval_step_interval == 0 or last:
            self._evaluate(step, features, labels, summaries)
        frequency = options.intermediate_store_frequency
        if frequency > 0 and step % frequency == 0 and step > 0:
            path = f"{options.intermediate_output_graphs_dir}intermediate_{step}.pb"
            log.info("Save intermediate result to : %s", path)
            write_checkpoint(options.checkpoint_path, self._variables())
            write_graph(self.to_model(), path, options.final_tensor_name)

    def _draw_batch(self):
        rows = self.samplers[TRAINING].draw(self.options.train_batch_size)
        if not self.distortion:
            return self.pictures.features[rows], self.pictures.labels[rows]
        embeddings = embed_distorted(self.pictures, rows, self.distortion, self.random)
        return self.pictures.to_features(embeddings), self.pictures.labels[rows]

    def _evaluate(self, step, features, labels, summaries):
        accuracy, cross_entropy = self.layer.measure(features, labels)
        _tell("%s: Step %d: Train accuracy = %.1f%%", step, 100 * accuracy)
        _tell("%s: Step %d: Cross entropy = %f", step, cross_entropy)
        scalars = {"accuracy_1": accuracy, "cross_entropy_1": cross_entropy}
        summaries["train"].write(step, scalars, self._variables())
        rows = self.samplers[VALIDATION].draw(self.options.validation_batch_size)
        if len(rows):
            accuracy, cross_entropy = self.layer.measure(self.pictures.features[rows], self.pictures.labels[rows])
            _tell("%s: Step %d: Validation accuracy = %.1f%% (N=%d)", step, 100 * accuracy, len(rows))
            summaries["validation"].write(step, {"accuracy_1": accuracy, "cross_entropy_1": cross_entropy})

    def _test(self):
        pictures, rows = self.pictures, self.samplers[TESTING].draw(self.options.test_batch_size)
        if not len(rows):
            return
        guessed = self.layer.logits(pictures.features[rows]).argmax(axis=1)
        wrong = guessed != pictures.labels[rows]
        accuracy = 1 - float(wrong.mean())
        self.accuracy, self.tested = accuracy, len(rows)
        log.info("Final test accuracy = %.1f%% (N=%d)", 100 * accuracy, len(rows))
        if self.options.print_misclassified_test_images:
            log.info("=== MISCLASSIFIED TEST IMAGES ===")
            labels = legacy_labels(pictures.dataset.classes)
            for row, label in zip(rows[wrong], guessed[wrong], strict=True):
                log.info("%70s  %s", pictures.dataset.paths[row], labels[label])

    def _variables(self):
        """By the names that they had in the original's graph."""
        return {
            "final_retrain_ops/weights/final_weights": self.layer.weights,
            "final_retrain_ops/biases/final_biases": self.layer.biases,
        }

    def to_model(self):
        """Model with the layer as its head.  Its confidences are what the layer says; it calls nothing unknown."""
        pictures, classes = self.pictures, self.pictures.dataset.classes
        head = Head(np.ascontiguousarray(self.layer.weights.T) * np.float32(pictures.length), self.layer.biases)
        model = Model(classes, [pictures.backbone], head)
        learned = pictures.rows(TRAINING)
        model.learned = learned_marks([pictures.digests[row] for row in learned])
        backbone = pictures.backbone.spec.name
        kept = asdict(TrainOptions(split="legacy", backbone=backbone))
        kept |= {"test_share": self.options.testing_percentage / 100}
        kept |= {"validation_share": self.options.validation_percentage / 100}
        model.info = {
            "metrics": {"accuracy": self.accuracy, "test_images": self.tested},
            "counts": dict(zip(classes, pictures.dataset.counts().tolist(), strict=True)),
            "head": {"kind": "softmax layer by gradient descent, as retrain.py"},
            "options": {key: kept[key] for key in kept if key not in TOLD_ELSEWHERE},
            "backbone": backbone,
            "versions": {"retrain": retrain.__version__},
        }
        return model


def _tell(line, *values):
    log.info(line, datetime.now(), *values)
