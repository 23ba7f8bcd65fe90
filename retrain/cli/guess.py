"""retrain guess"""

import sys
from pathlib import Path

import click

from retrain import progress
from retrain.classifier import Classifier, find_pictures
from retrain.cli import FILES_FAILED
from retrain.cli.shared import AS_JSON, MODEL_DIR, plain, print_json, trust_options
from retrain.errors import RetrainError
from retrain.options import GuessOptions, TrustOptions
from retrain.recipes.explaining import Explainer

TOP_AS_TEXT = 5


@click.command("guess")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@MODEL_DIR
@click.option(
    "--top", type=click.IntRange(1), default=GuessOptions.top, help="Labels to show.  [default: 5; JSON: all]"
)
@trust_options
@click.option(
    "--explain", "out", metavar="FOLDER",
    help="Write there for each picture the original, a heat map and the part that counts, as `retrain explain` does.",
)  # fmt: skip
@AS_JSON
def command(paths, model_dir, top, out, as_json, **trust):
    """Say what is on each PATH: picture files, folders of them, or - for a picture on standard input.

    A picture unlike all that was learned is unknown: its first line says so, and the labels below are the nearest.
    A model trained on pictures with several labels begins with those at or above their thresholds; the scores of such a
    model do not add up to one.

    \b
    retrain guess picture.jpg
    retrain guess --coverage 0.9 holiday
    retrain guess --json holiday > guesses.jsonl
    """
    print_guesses(Classifier.load(model_dir, TrustOptions(**trust)), paths, top, as_json, out)


def print_guesses(classifier, paths, top, as_json, out=None):
    """Guess and print; the exit code tells of files that failed.  out: folder for what explains each guess."""
    failed = 0
    with progress.shown():
        for guess, files in _guesses(classifier, paths, out):
            failed += guess.error is not None
            if as_json:
                print_json(guess.as_dict(top) | files)
            else:
                _print(guess, top or TOP_AS_TEXT, named=len(paths) > 1 or str(Path(paths[0])) != guess.path)
    if failed:
        click.echo(f"{failed} file(s) failed.", err=True)
        raise SystemExit(FILES_FAILED)


def _guesses(classifier, paths, out):
    """Pairs of a Guess and {kind: path} of what explains it; of nothing where no folder for that is named."""
    piped = paths == ("-",)
    files = [] if piped else list(find_pictures(paths))
    if not files and not piped:
        raise RetrainError(f"no files under {', '.join(paths)}.", "Name pictures, or folders that hold some.")
    explainer = None if out is None else Explainer(classifier, paths, out)
    if piped:
        data = sys.stdin.buffer.read()
        return [explainer.explain_bytes(data) if explainer else (classifier.guess_bytes(data), {})]
    if explainer:
        return progress.track(explainer.explain_files(files), "Guessing", len(files))
    return ((guess, {}) for guess in progress.track(classifier.guess_files(files), "Guessing", len(files)))


def _print(guess, top, named):
    if named:
        click.echo(guess.path)
    if guess.error:
        click.echo(f"{guess.path}: {guess.error}", err=True)
        return
    if guess.labels:
        click.echo(f"labels: {plain(', '.join(guess.labels))}")
    elif guess.labels is not None:
        click.echo("none; nearest:")
    elif guess.unknown:
        click.echo("unknown; nearest:")
    elif len(guess.candidates or ()) > 1:
        click.echo(f"ambiguous: {', '.join(guess.candidates)}")
    for label, confidence in list(guess.scores.items())[:top]:
        click.echo(f"{label} (score = {confidence:.5f})")
