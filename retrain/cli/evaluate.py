"""retrain evaluate"""

import click

from retrain import progress
from retrain.cli.shared import AS_JSON, MODEL_DIR, ONLY, accuracy_line, percent, show
from retrain.options import EvaluateOptions


@click.command("evaluate")
@click.argument("data")
@MODEL_DIR
@ONLY
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=EvaluateOptions.threshold, show_default=True,
    help="Count only guesses of this confidence or more as covered.",
)  # fmt: skip
@AS_JSON
def command(data, as_json, **options):
    """Measure a model on DATA: one folder a class, pictures that it was not trained on.

    \b
    retrain evaluate photos/test
    retrain evaluate photos/test --threshold 0.9
    """
    from retrain.recipes.evaluating import evaluate

    with progress.shown():
        result = evaluate(data, EvaluateOptions(**options))
    show(result, as_json, _print)


def _print(result):
    click.echo(f"Accuracy on {result['test_images']} pictures: {accuracy_line(result)}")
    if result["threshold"]:
        covered = result["accuracy_on_covered"]
        on_covered = "" if covered is None else f", accuracy on those {percent(covered)}"
        click.echo(f"Confidence {result['threshold']:g} or more: {percent(result['coverage'])} of them{on_covered}")
    click.echo(f"Calibration error (ECE): {percent(result['ece'])}")
    width = max(map(len, ["class", *result["classes"]]))
    click.echo(f"{'class':<{width}}  precision  recall      f1  pictures")
    for name, scores in result["per_class"].items():
        columns = "  ".join(
            f"{percent(scores[key]):>{size}}" for key, size in [("precision", 9), ("recall", 7), ("f1", 7)]
        )
        click.echo(f"{name:<{width}}  {columns}  {scores['support']:>8}")
