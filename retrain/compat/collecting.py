"""classifier_training.py and the odd-one-out script: those that crawl what they learn from."""

import logging
from pathlib import Path

from retrain import progress
from retrain.classifier import Classifier
from retrain.compat.flags import parser_of, read
from retrain.compat.labelling import FAILED
from retrain.errors import RetrainError
from retrain.options import LearnOptions, OddOptions, default_model_dir
from retrain.recipes.learning import learn
from retrain.recipes.odd_one_out import find_odd_one_out

log = logging.getLogger("retrain")


def classifier_training(argv):
    """classifier_training.py -c CLASS,… -p FOLDER: `retrain learn`.  Returns the exit code."""
    parser = parser_of("classifier_training.py", "Learn classes from their names, and recognise them in a folder.")
    parser.add_argument("--classes", "-c", required=True, help="What to tell apart, such as cat,dog.")
    parser.add_argument("--prediction_path", "--prediction-path", "-p", required=True, help="Pictures to guess.")
    parser.add_argument("--threshold", "-t", type=float, default=LearnOptions.threshold, help="Counts from here on.")
    flags = read(parser, argv)
    if not 0 <= flags.threshold <= 1:
        raise RetrainError(f"the threshold is {flags.threshold}.", "Give one from 0 to 1, such as 0.99.")
    classes = [name.strip() for name in flags.classes.split(",") if name.strip()]
    with progress.shown():
        result = learn(classes, Path(flags.prediction_path).expanduser(), LearnOptions(threshold=flags.threshold))
    print(f"{result['images']} images, {result['covered']} over the threshold, {result['missed']} missed")
    for label, number in result["labels"].items():
        print(f"{label}: {number}")
    print(f"Results: {result['results']}")
    return FAILED if result["skipped"] else 0


def find_other(argv):
    """The odd-one-out script, LABEL IMAGE…: `retrain odd --label`.  Returns the exit code.

    For pictures and data sets: nothing here drives a browser or answers a page.
    """
    parser = parser_of("Image-Recognition-ReCaptcha-Fooling.py", "Find the picture that is not a LABEL.")
    parser.add_argument("label", metavar="LABEL")
    parser.add_argument("pictures", nargs="+", metavar="IMAGE")
    flags = read(parser, argv)
    with progress.shown():
        result = find_odd_one_out(flags.pictures, OddOptions(label=flags.label))
    if result["by"] == "model":
        for guess in Classifier.load(default_model_dir()).guess_files(result["scores"]):
            for label, score in guess.scores.items():
                print(f"{guess.path} is a {label} (score = {score:.5f})")
    else:
        for path, score in result["scores"].items():
            print(f"{path} is a {flags.label} (score = {1 - score:.5f})")
    if not result["odd"]:
        log.warning("None stands out: the least likely one is named, for one always was.")
    for path in reversed(result["odd"] or [max(result["scores"], key=result["scores"].__getitem__)]):
        print(f"The one that is not a {flags.label} is: {path}")  # the oddest last
    return FAILED if result["skipped"] else 0
