"""retrain train"""

import click

from retrain import progress
from retrain.cli.shared import AS_JSON, MODEL_DIR, accuracy_line, data_options, show
from retrain.options import QUALITIES, TrainOptions


@click.command("train")
@click.argument("data")
@MODEL_DIR
@click.option(
    "--quality", type=click.Choice(list(QUALITIES)), default=TrainOptions.quality, show_default=True,
    help="fast: one backbone. good: two side by side, about three times the time.",
)  # fmt: skip
@click.option("--backbone", metavar="NAME[+NAME]", help="Instead of a quality; retrain backbones lists them.")
@data_options
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
    retrain train photos --balance cut --min-size 224x224
    """
    from retrain.recipes.training import train

    with progress.shown():
        result = train(data, TrainOptions(**options))
    show(result, as_json, _print)


def _print(result):
    click.echo(f"{result['images']} pictures, {len(result['classes'])} classes: {', '.join(result['classes'])}")
    weights = sorted((weight, name) for name, weight in (result["class_weights"] or {}).items())
    if weights and weights[0][0] < weights[-1][0]:
        (low, large), (high, small) = weights[0], weights[-1]
        click.echo(f"Classes weighted by their size: a picture of {large} counts {low:.2f}, one of {small} {high:.2f}")
    if result["left_out"]:
        click.echo(f"Pictures left out, to have fewer a class: {result['left_out']}")
    if result["accuracy"] is None:
        click.echo("Accuracy: not measured, too few pictures.")
    elif result["accuracy_from"] == "test":
        click.echo(f"Accuracy on {result['test_images']} pictures kept back: {accuracy_line(result)}")
    else:
        click.echo(f"Accuracy by cross-validation: {accuracy_line(result)}")
    click.echo(f"Model: {result['model_dir']}, trained in {result['seconds']:.1f} s")
