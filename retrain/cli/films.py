"""Films among the paths of `guess` and `imagenet`.  What reads them is loaded when one is met."""

from dataclasses import dataclass, replace

import click

from retrain.cli import plain
from retrain.errors import RetrainError
from retrain.options import FilmOptions


@dataclass(frozen=True)
class Films:
    """How films are guessed, and where their files go."""

    options: FilmOptions
    out: str | None  # folder

    def guess(self, classifier, guess, named):
        """The FilmGuess of a file that was no picture, where it is a film; else the guess as it was.

        named: whether the user has typed its path.  Raises RetrainError where it is so, and PyAV is missing.
        """
        if not (guess.error or "").startswith("not_an_image"):
            return guess
        from retrain.video import is_film, require_pyav

        if not is_film(guess.path):
            return guess
        try:
            require_pyav()
        except RetrainError as error:
            if named:
                raise
            return replace(guess, error=f"unsupported ({error} {error.hint})")
        from retrain.recipes.filming import guess_film

        return guess_film(classifier, guess.path, self.options, self.out)


def print_film(guess):
    """The segments of a FilmGuess, a line each."""
    from retrain.recipes.film_files import caption, clock

    for segment in guess.segments:
        span = f"{clock(segment['start_s'])}-{clock(segment['end_s'])}"
        click.echo(f"{span} {plain(caption(segment))} (score = {segment['confidence']:.5f})")


def print_notes(guess):
    """On stderr what was wrong with a film, and what was written of it."""
    from retrain.recipes.film_files import clock

    notes = []
    if guess.is_cut:
        notes.append(f": ends at {clock(guess.duration_s)} of {clock(guess.announced_s)}.")
    if guess.damaged:
        notes.append(f": {guess.damaged} damaged part(s) passed over.")
    written = list(filter(None, guess.files.values()))
    if written:
        notes.append(f" -> {', '.join(written)}")
    for note in notes:
        click.echo(plain(guess.path + note), err=True)
