"""label_image.py and its kin: what is on a picture, printed as each of them did."""

import base64
import binascii
import json
import sys
import time
from pathlib import Path

import numpy as np

from retrain.classifier import find_pictures
from retrain.compat.flags import graph_parser, parser_of, read
from retrain.compat.homes import open_guesser
from retrain.errors import RetrainError
from retrain.imagenet import load_imagenet
from retrain.options import GraphOptions

STYLES = {
    "raw": lambda label, score: f"{label} {np.float32(score)!s}",
    "poets": lambda label, score: f"{label} (score={score:0.5f})",
    "guess": lambda label, score: f"{label} (score = {score:.5f})",
}
# What each label_image.py took for granted: pixels a side, mean and standard deviation.
ASSUMED = {"raw": (299, 0, 255), "poets": (224, 128, 128), "guess": None}
TOP = 5
UNNAMED = "input"  # layer, where its size or its pixels are typed
PREDICTED = "unknow_images"  # as it was spelled
TREE = Path("TensorFlow_model/cpu")
PANDA = "cropped_panda.jpg"
FAILED = 3  # exit code: done, but some files failed

GRAPH_FLAGS = {
    "input_height": int, "input_width": int, "input_mean": float, "input_std": float, "input_layer": str,
    "output_layer": str,
}  # fmt: skip


def label_image(argv):
    """label_image.py in its three dialects, told apart by their arguments.

    A picture without a flag: that of tensor-guess.  --graph and --labels: that of TensorFlow's examples.  Else that of
    TensorFlow for Poets, which has a graph and labels by default.
    """
    parser = parser_of("label_image.py", "Say what is on a picture.")
    parser.add_argument("picture", nargs="?", help="As --image.")
    for name in ("image", "graph", "labels"):
        parser.add_argument(f"--{name}", help=f"Path of the {name}.")
    for name, kind in GRAPH_FLAGS.items():
        parser.add_argument(f"--{name}", type=kind, help=f"The {name.replace('_', ' ')} of the graph.")
    parser.add_argument("--style", choices=[*STYLES, "json"], help="How labels are printed.")
    flags = read(parser, argv)
    path = flags.image or flags.picture
    if not path:
        raise RetrainError("no picture is named.", "--image names it.")
    dialect = "guess" if not flags.image else "raw" if flags.graph and flags.labels else "poets"
    guesser, names = open_guesser(flags.graph, flags.labels, _graph_options(flags, ASSUMED[dialect]))
    start = time.perf_counter()
    guess = _require(guesser.guess_file(path))
    if dialect == "poets" and flags.style is None:
        print(f"\nEvaluation time (1-image): {time.perf_counter() - start:.3f}s\n")
    if flags.style == "json":
        print(json.dumps(guess.as_dict() | {"scores": _renamed(guess, names)}, ensure_ascii=False))
    else:
        print_scores(guess, names, flags.style or dialect, None if dialect == "guess" else TOP)
    return 0


def _graph_options(flags, assumed):
    """GraphOptions of what was typed.  Without any of it, a graph that reads files itself gets the picture as it is."""
    typed = {name: getattr(flags, name) or None for name in GRAPH_FLAGS}  # as it was, a 0 cannot be given
    if not typed["input_layer"] and any(typed[name] for name in typed if name not in ("input_layer", "output_layer")):
        typed["input_layer"] = UNNAMED
    return GraphOptions(**typed, assumed=assumed)


def classify(argv):
    """classify.py FILE: all labels, best first."""
    parser = graph_parser("classify.py", "Say what is on pictures.")
    parser.add_argument("pictures", nargs="+", metavar="FILE")
    flags = read(parser, argv)
    guesser, names = open_guesser(flags.graph, flags.labels)
    return print_guesses(guesser, names, flags.pictures)


def predict(argv):
    """predict.py [PATH…]: the same for the pictures of a folder, or for those of a list in base64."""
    parser = graph_parser("predict.py", "Say what is on the pictures of folders.")
    parser.add_argument("pictures", nargs="*", metavar="PATH", help=f"Files and folders; by default {PREDICTED}.")
    parser.add_argument("--base64", metavar="FILE", help="A JSON list of pictures in base64; - for standard input.")
    flags = read(parser, argv)
    graph = flags.graph or next(map(str, TREE.glob("output_graph.pb")), None)
    guesser, names = open_guesser(graph, flags.labels)
    if flags.base64:
        return _print_all(names, map(guesser.guess_bytes, *_decoded(flags.base64)), named=True)
    files = [str(path) for path in find_pictures(flags.pictures or [PREDICTED])]
    if not files:
        raise RetrainError(f"no files under {', '.join(flags.pictures) or PREDICTED}.", "Name pictures, or folders.")
    return print_guesses(guesser, names, files, named=True)


def _decoded(path):
    """The pictures of a JSON list of base64 texts, and a name for each."""
    try:
        texts = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
        pictures = [base64.b64decode(text.partition("base64,")[2] or text) for text in texts]
    except (OSError, ValueError, AttributeError, TypeError, binascii.Error) as error:
        raise RetrainError(f"{path} is no JSON list of base64 texts: {error}.", 'Such as ["/9j/4AAQ…"].') from error
    return pictures, [f"picture {number}" for number in range(1, len(pictures) + 1)]


def classify_image(argv):
    """classify_image.py: the thousand classes of ImageNet; the network comes with the package."""
    parser = parser_of("classify_image.py", "Say which of ImageNet's 1,000 classes is on a picture.")
    parser.add_argument("--image_file", "--image-file", default="", help=f"The picture; by default {PANDA}.")
    parser.add_argument("--num_top_predictions", "--num-top-predictions", type=int, default=TOP, help="Labels to show.")
    parser.add_argument(
        "--model_dir", "--model-dir", default="/tmp/imagenet", help=f"Where {PANDA} is looked for."  # noqa: S108
    )  # fmt: skip
    flags = read(parser, argv)
    path = flags.image_file or Path(flags.model_dir) / PANDA
    if not flags.image_file and not path.exists():
        raise RetrainError(f"there is no {path}.", "--image_file names the picture; nothing is downloaded.")
    guesser = load_imagenet()
    guess = _require(guesser.guess_file(path))
    print_scores(guess, {label: label for label in guess.scores}, "guess", flags.num_top_predictions)
    return 0


def print_guesses(guesser, names, paths, named=None):
    """All labels of each picture, under its path where there are several.  Returns the exit code."""
    return _print_all(names, guesser.guess_files(paths), len(paths) > 1 if named is None else named)


def _print_all(names, guesses, named):
    failed = 0
    for guess in guesses:
        if not named:
            _require(guess)
        if guess.error:
            failed += 1
            print(f"{guess.path}: {guess.error}", file=sys.stderr)
            continue
        if named:
            print(guess.path)
        print_scores(guess, names, "guess")
    return FAILED if failed else 0


def print_scores(guess, names, style, top=None):
    """The labels of a Guess, best first, a line each."""
    for label, score in list(_renamed(guess, names).items())[:top]:
        print(STYLES[style](label, score))


def _renamed(guess, names):
    return {names[label]: score for label, score in guess.scores.items()}


def _require(guess):
    """The Guess.  Raises RetrainError where the file is no picture."""
    if guess.error:
        raise RetrainError(f"{guess.path}: {guess.error}.", "Name a picture.")
    return guess
