"""retrain imagenet"""

import click

from retrain.cli.films import Films
from retrain.cli.guess import print_guesses
from retrain.cli.shared import AS_JSON, film_choices, film_options
from retrain.imagenet import load_imagenet
from retrain.options import ImageNetOptions


@click.command("imagenet")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--top", type=click.IntRange(1), default=ImageNetOptions.top, show_default=True, help="Labels to show.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=ImageNetOptions.threshold, show_default=True,
    help="Below this confidence a picture is unknown.",
)  # fmt: skip
@film_options
@AS_JSON
def command(paths, top, threshold, every, fps, smooth, out, as_json):
    """Say which of ImageNet's 1,000 classes is on each PATH: pictures, films, folders, or - for standard input.

    Nothing has to be trained. The score is what the network says; no picture is unknown unless --threshold says so.

    \b
    retrain imagenet picture.jpg
    retrain imagenet --json --top 1 holiday
    retrain imagenet --every frame --out seen film.mp4
    """
    films = Films(film_choices(every, fps, smooth), out)
    print_guesses(load_imagenet(threshold), paths, top, as_json, films)
