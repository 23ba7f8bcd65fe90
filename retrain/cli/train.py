"""retrain train"""

import click

from retrain import progress
from retrain.cli.shared import AS_JSON, MODEL_DIR, ONLY, accuracy_line, show
from retrain.options import QUALITIES, TrainOptions


@click.command("train")
@click.argument("data")
@MODEL_DIR
@click.option(
    "--quality", type=click.Choice(list(QUALITIES)), default=TrainOptions.quality, show_default=True,
    help="fast: one backbone. good: two side by side, about three times the time.",
)  # fmt: skip
@click.option("--backbone", metavar="NAME[+NAME]", help="Instead of a quality; retrain backbones lists them.")
@ONLY
@click.option(
    "--test-share", type=click.FloatRange(0, 0.9), default=TrainOptions.test_share, show_default=True,
    help="Share of the pictures kept back to measure. 0: train on all, measure by cross-validation.",
)  # fmt: skip
@click.option(
    "--group-by", metavar="REGEX", default=TrainOptions.group_by,
    help=r"Keep pictures together whose names have the same first group in it, such as the bursts of '(IMG_\d+)'.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=TrainOptions.seed, show_default=True, help="Deals the folds of cross-validation."
)
@click.option("--report/--no-report", default=TrainOptions.report, help="Write report.html beside the model.")
@AS_JSON
def command(data, as_json, **options):
    """Teach a model the categories of DATA: one folder a class, whose name is the label.

    Deeper folders belong to their class. A DATA with train/ and test/ inside is used as such.

    \b
    retrain train photos
    retrain train photos --quality good --only daisy,roses
    """
    from retrain.recipes.training import train

    with progress.shown():
        result = train(data, TrainOptions(**options))
    show(result, as_json, _print)


def _print(result):
    click.echo(f"{result['images']} pictures, {len(result['classes'])} classes: {', '.join(result['classes'])}")
    if result["accuracy"] is None:
        click.echo("Accuracy: not measured, too few pictures.")
    elif result["accuracy_from"] == "test":
        click.echo(f"Accuracy on {result['test_images']} pictures kept back: {accuracy_line(result)}")
    else:
        click.echo(f"Accuracy by cross-validation: {accuracy_line(result)}")
    click.echo(f"Model: {result['model_dir']}, trained in {result['seconds']:.1f} s")
