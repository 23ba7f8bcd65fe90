"""retrain guess"""

import sys
from dataclasses import asdict
from pathlib import Path

import click
from click.core import ParameterSource

from retrain import progress
from retrain.classifier import Classifier
from retrain.cli import FILES_FAILED, plain
from retrain.cli.films import Films, print_film, print_notes
from retrain.cli.shared import (
    AS_JSON,
    MODEL_DIR,
    engine_options,
    face_options,
    film_choices,
    film_options,
    graph_options,
    print_json,
    trust_options,
)
from retrain.errors import RetrainError
from retrain.face_classifier import FaceClassifier, FaceGuess, face_rows
from retrain.graph_classifier import GraphClassifier
from retrain.options import EngineOptions, GraphOptions, GuessOptions, TrustOptions
from retrain.recipes.consent import require_consent
from retrain.recipes.explaining import Explainer, require_apart
from retrain.scale import spread
from retrain.scale.places import find_files, require_local

TOP_AS_TEXT = 5


@click.command("guess")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@MODEL_DIR
@click.option(
    "--top", type=click.IntRange(1), default=GuessOptions.top, help="Labels to show.  [default: 5; JSON: all]"
)
@trust_options
@click.option(
    "--explain", "explained", metavar="FOLDER",
    help="Write there for each picture the original, a heat map and the part that counts, as `retrain explain` does.",
)  # fmt: skip
@film_options
@face_options("With a model of faces: say of each face who it is, and where.")
@click.option(
    "--boxes", metavar="FOLDER", help="With --faces: write there each picture that shows faces, with boxes and names."
)
@graph_options
@engine_options
@AS_JSON
@click.pass_context
def command(
    ctx, paths, model_dir, top, explained, out, every, fps, smooth, faces, i_have_consent, boxes, graph, labels,
    as_json, **options,
):  # fmt: skip
    """Say what is on each PATH: picture files, films, folders of them, or - for a picture on standard input.

    A picture unlike all that was learned is unknown: its first line says so, and the labels below are the nearest.
    A model trained on pictures with several labels begins with those at or above their thresholds; the scores of such a
    model do not add up to one. Of a film the stretches of time are told in which one thing is seen.

    \b
    retrain guess picture.jpg
    retrain guess --out seen film.mp4
    retrain guess --coverage 0.9 holiday
    retrain guess --json holiday > guesses.jsonl
    retrain guess --faces --boxes drawn party.jpg
    retrain guess --graph retrained_graph.pb --labels retrained_labels.txt picture.jpg
    """
    films = Films(film_choices(every, fps, smooth), out)
    engine = EngineOptions(**{name: options.pop(name) for name in asdict(EngineOptions())})
    trust = {name: options.pop(name) for name in asdict(TrustOptions())}
    if engine.engine != EngineOptions.engine and (explained is not None or paths == ("-",)):
        raise click.UsageError("--engine is for files, and without --explain.", ctx)
    if faces:
        whole = ["explained", "out", "every", "fps", "smooth", "graph", "labels", *options]
        _refuse(ctx, whole, "is for whole pictures, not for --faces.")
        if boxes and paths == ("-",):
            raise click.UsageError("--boxes is for files, not for standard input.", ctx)
        require_consent(paths, i_have_consent, engine.engine)
        print_faces(FaceClassifier.load(model_dir, TrustOptions(**trust)), paths, top, as_json, boxes)
        return
    _refuse(ctx, ["boxes"], "is for --faces.")
    if graph is None:
        _refuse(ctx, ["labels", *options], "is for a --graph.")
        classifier = Classifier.load(model_dir, TrustOptions(**trust))
    else:
        ours = ["model_dir", "explained", "reject_rate", "coverage"]
        _refuse(ctx, ours, "is for a model that retrain trained, not a graph.")
        if engine.engine != EngineOptions.engine:
            raise click.UsageError("--engine is for a model that retrain trained, not a graph.", ctx)
        classifier = GraphClassifier.load(graph, labels, GraphOptions(**options), trust["threshold"])
    print_guesses(classifier, paths, top, as_json, films, explained, engine)


def _refuse(ctx, names, reason):
    """Raise UsageError where one of these parameters was given."""
    for parameter in ctx.command.params:
        if parameter.name in names and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} {reason}", ctx)


def print_guesses(classifier, paths, top, as_json, films, explained=None, engine=EngineOptions()):  # noqa: B008 - frozen
    """Guess and print; the exit code tells of files that failed.  explained: folder for what explains each guess."""
    with progress.shown():
        failed = sum(
            _print_guess(guess, files, paths, top, as_json)
            for guess, files in _guesses(classifier, paths, films, explained, engine)
        )
    _tell_failed(failed)


def print_faces(classifier, paths, top, as_json, boxes):
    """The same face by face.  boxes: folder for drawings of where they are; None draws none."""
    from retrain.recipes.boxing import Boxes

    drawer, failed = Boxes(boxes, paths) if boxes else None, 0
    with progress.shown():
        for photo, _ in _guesses(classifier, paths, None, None, EngineOptions()):
            files = {"boxes": drawer.draw(photo)} if drawer else {}
            for number, guess in enumerate(face_rows(photo)):
                failed += _print_guess(guess, files, paths, top, as_json, again=number > 0)
    _tell_failed(failed)


def _print_guess(guess, files, paths, top, as_json, again=False):
    """Print a guess.  again: of the same picture.  Returns whether the file failed."""
    if as_json:
        print_json(guess.as_dict(top) | files)
    else:
        _print(guess, top or TOP_AS_TEXT, named=not again and (len(paths) > 1 or str(Path(paths[0])) != guess.path))
    if hasattr(guess, "segments"):
        print_notes(guess)
    return guess.error is not None


def _tell_failed(failed):
    if failed:
        click.echo(f"{failed} file(s) failed.", err=True)
        raise SystemExit(FILES_FAILED)


def _guesses(classifier, paths, films, out, engine):
    """Pairs of a Guess and {kind: path} of what explains it; of nothing where no folder for that is named."""
    piped = paths == ("-",)
    files, reader = ([], None) if piped else find_files(paths)
    if not files and not piped:
        raise RetrainError(f"no files under {', '.join(paths)}.", "Name pictures, or folders that hold some.")
    if films and films.out is not None:
        require_apart(Path(films.out), paths)
    if out is not None:
        require_local(*paths)
    explainer = None if out is None else Explainer(classifier, paths, out)
    if piped:
        data = sys.stdin.buffer.read()
        yield explainer.explain_bytes(data) if explainer else (classifier.guess_bytes(data), {})
        return
    if explainer:
        guesses = explainer.explain_files(files)
    else:
        guesses = ((guess, {}) for guess in spread(classifier, engine, reader).guess_files(files))
    named = {str(Path(path)) for path in paths}
    for guess, written in progress.track(guesses, "Guessing", len(files)):
        yield films.guess(classifier, guess, guess.path in named) if films else guess, written


def _print(guess, top, named):
    if named:
        click.echo(plain(guess.path))
    if guess.error:
        click.echo(plain(f"{guess.path}: {guess.error}"), err=True)
        return
    if hasattr(guess, "segments"):
        print_film(guess)
        return
    if isinstance(guess, FaceGuess):
        if guess.box is None:
            click.echo("no face")
            return
        click.echo("face at {},{}, {} x {} px".format(*guess.box))
    if guess.labels:
        click.echo(f"labels: {plain(', '.join(guess.labels))}")
    elif guess.labels is not None:
        click.echo("none; nearest:")
    elif guess.unknown:
        click.echo("unknown; nearest:")
    elif len(guess.candidates or ()) > 1:
        click.echo(f"ambiguous: {plain(', '.join(guess.candidates))}")
    for label, confidence in list(guess.scores.items())[:top]:
        click.echo(f"{plain(label)} (score = {confidence:.5f})")
