"""retrain guess"""

import sys
from pathlib import Path

import click

from retrain import progress
from retrain.classifier import Classifier, find_pictures
from retrain.cli import FILES_FAILED
from retrain.cli.shared import AS_JSON, MODEL_DIR, print_json
from retrain.errors import RetrainError
from retrain.options import GuessOptions

TOP_AS_TEXT = 5


@click.command("guess")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@MODEL_DIR
@click.option(
    "--top", type=click.IntRange(1), default=GuessOptions.top, help="Labels to show.  [default: 5; JSON: all]"
)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=GuessOptions.threshold, show_default=True,
    help="Below this confidence a picture is unknown.",
)  # fmt: skip
@AS_JSON
def command(paths, model_dir, top, threshold, as_json):
    """Say what is on each PATH: picture files, folders of them, or - for a picture on standard input.

    \b
    retrain guess picture.jpg
    retrain guess --json holiday > guesses.jsonl
    """
    classifier = Classifier.load(model_dir, threshold)
    failed = 0
    with progress.shown():
        for guess in _guesses(classifier, paths):
            failed += guess.error is not None
            if as_json:
                print_json(guess.as_dict(top))
            else:
                _print(guess, top or TOP_AS_TEXT, named=len(paths) > 1 or str(Path(paths[0])) != guess.path)
    if failed:
        click.echo(f"{failed} file(s) failed.", err=True)
        raise SystemExit(FILES_FAILED)


def _guesses(classifier, paths):
    if paths == ("-",):
        return [classifier.guess_bytes(sys.stdin.buffer.read())]
    files = list(find_pictures(paths))
    if not files:
        raise RetrainError(f"no files under {', '.join(paths)}.", "Name pictures, or folders that hold some.")
    return progress.track(classifier.guess_files(files), "Guessing", len(files))


def _print(guess, top, named):
    if named:
        click.echo(guess.path)
    if guess.error:
        click.echo(f"{guess.path}: {guess.error}", err=True)
        return
    if guess.unknown:
        click.echo("unknown; nearest:")
    for label, confidence in list(guess.scores.items())[:top]:
        click.echo(f"{label} (score = {confidence:.5f})")
