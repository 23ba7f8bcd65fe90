"""retrain learn"""

import shlex

import click

from retrain import progress
from retrain.cli import plain, program
from retrain.cli.scores import print_threshold
from retrain.cli.shared import (
    AS_JSON,
    MODEL_DIR,
    accuracy_line,
    crawl_options,
    names,
    not_empty,
    show,
    show_failures,
)
from retrain.options import BALANCES, QUALITIES, LearnOptions


@click.command("learn")
@click.option("-c", "--classes", metavar="CLASS,…", required=True, callback=names, help="What to tell apart.")
@click.option(
    "-p", "--prediction-path", "folder", metavar="FOLDER", required=True, callback=not_empty, help="Pictures to guess."
)
@click.option(
    "-t",
    "--threshold",
    type=click.FloatRange(0, 1),
    default=LearnOptions.threshold,
    show_default=True,
    help="Below this confidence a picture is missed.",
)
@click.option(
    "--out", metavar="FOLDER", default=LearnOptions.out, callback=not_empty, show_default=True,
    help="Where the results go.",
)  # fmt: skip
@click.option(
    "--data", metavar="DATA", help="Folder of the classes' pictures.  [default: $TF_FILES/data, or tf_files/data]"
)
@crawl_options(LearnOptions)
@click.option("--quality", type=click.Choice(list(QUALITIES)), default=LearnOptions.quality, show_default=True)
@click.option(
    "--balance",
    type=click.Choice(BALANCES),
    default=LearnOptions.balance,
    show_default=True,
    help="weight: small classes count as much as large ones. cut: all classes to the size of the smallest.",
)
@click.option(
    "--reject-rate",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="SHARE",
    help="Call about this share of the pictures guessed right unknown; 0: none.  [default: as trained]",
)
@MODEL_DIR
@AS_JSON
def command(classes, folder, as_json, **options):
    """Learn CLASSes from their names alone, and recognise them on the pictures of FOLDER.

    Crawls pictures of each, cleans them, trains, and guesses; a model that knows just these classes is used at once.
    results/CLASS holds of each picture recognised the original, what speaks for the class as a heat map, and the part
    of it that does; results.csv and index.html tell of all pictures. Where FOLDER has folders named as the classes,
    it says how many were right. Class folders in DATA that hold pictures of your own are used as they are. A run that
    was stopped goes on where it stopped. With --source urls a class CAT is crawled from the addresses in CAT.txt.

    \b
    retrain learn -c cat,dog -p holiday
    retrain learn -c "bellis perennis,taraxacum officinale" -p meadow --source inaturalist -t 0.9
    """
    from retrain.recipes.learning import learn

    with progress.shown():
        result = learn(classes, folder, LearnOptions(**options))
    show_failures(result["failures"])
    show(result, as_json, _print)


def _print(result):
    trained = result["trained"]
    if trained:
        measured = f": accuracy {accuracy_line(trained)}" if trained["accuracy"] is not None else ""
        click.echo(f"Trained on {trained['images']} pictures{measured}")
    click.echo(f"{result['images']} pictures: {result['covered']} recognised, {result['missed']} missed")
    for label, count in result["labels"].items():
        click.echo(f"{count:7} {plain(label)}")
    if result["at_threshold"]:
        print_threshold(result["at_threshold"])
    click.echo(f"Results: {plain(result['results'])}/index.html and results.csv")
    click.echo(f"Next: {program()} guess --model-dir {shlex.quote(result['model_dir'])} picture.jpg")
