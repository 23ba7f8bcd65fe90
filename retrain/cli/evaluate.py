"""retrain evaluate"""

import click

from retrain import progress
from retrain.cli.scores import (
    print_classes,
    print_confused,
    print_labels,
    print_per_label,
    print_rows,
    print_threshold,
    row,
    unknown_rows,
)
from retrain.cli.shared import (
    AS_JSON,
    MODEL_DIR,
    ONLY,
    accuracy_line,
    engine_options,
    face_options,
    percent,
    show,
    trust_options,
)
from retrain.errors import RetrainError
from retrain.options import EvaluateOptions


@click.command("evaluate")
@click.argument("data")
@MODEL_DIR
@ONLY
@trust_options
@face_options("With a model of faces: judge of each picture the face that it shows.")
@engine_options
@click.option(
    "--assert-accuracy", type=click.FloatRange(0, 1), metavar="SHARE",
    help="Exit with code 1 where the accuracy is lower: for continuous integration.",
)  # fmt: skip
@click.option("--html", metavar="FILE", help="Write a page that shows the mistakes, with charts.")
@AS_JSON
def command(data, as_json, assert_accuracy, **options):
    """Measure a model on DATA: one folder a class, pictures that it was not trained on.

    For a model that tells several labels, DATA holds a labels.csv, or class folders that may share pictures.

    Pictures of something else, in DATA/_unknown, tell how well it knows what it does not know.

    \b
    retrain evaluate photos/test
    retrain evaluate photos/test --threshold 0.99
    retrain evaluate photos/test --html test.html
    retrain evaluate photos/test --assert-accuracy 0.9
    """
    from retrain.recipes.evaluating import evaluate

    with progress.shown():
        result = evaluate(data, EvaluateOptions(**options))
    show(result, as_json, _print, _shortfall(result["accuracy"], assert_accuracy))


def _shortfall(accuracy, asked):
    """The error where less was measured than asked for."""
    if asked is None or accuracy >= asked:
        return None
    return RetrainError(
        f"accuracy {100 * accuracy:.6g} % is below the {100 * asked:.6g} % asked.",
        "retrain train DATA --quality good is often better.",
    )


def _print(result):
    if result.get("multi_label"):
        _print_multilabel(result)
        return
    click.echo(f"Accuracy on {result['test_images']} pictures: {accuracy_line(result)}")
    chance = f", chance alone brings {percent(result['ece_if_calibrated'])}"
    print_rows(
        [
            _row("balanced accuracy", result, "balanced_accuracy"),
            *(row(f"truth in the first {k}", *scores.values()) for k, scores in result["top_k"].items()),
            _row("calibration error (ECE)", result, "ece", chance),
        ]
    )
    if result["threshold"]:
        print_threshold(result["at_threshold"])
    if result["unknown"] or result["known_rejected"]:
        _print_unknown(result["unknown"], result)
    if result["candidates"]:
        _print_candidates(result["candidates"])
    click.echo()
    print_classes(result["per_class"])
    if result["most_confused"]:
        click.echo()
        print_confused(result["most_confused"])
    click.echo(f"\n{result['intervals']}.")


def _print_multilabel(result):
    key = "mean_average_precision"
    click.echo(f"Mean average precision on {result['test_images']} pictures: {accuracy_line(result, key)}")
    print_labels(result)
    if result["unknown"]:
        click.echo("\nWithout a label:")
        print_rows([_row("of the known", result, "known_rejected"), *unknown_rows(result["unknown"])])
    click.echo()
    print_per_label(result["per_class"])
    click.echo(f"\n{result['intervals']}.")


def _row(name, scores, key, note=""):
    return row(name, scores[key], scores[f"{key}_interval"], note)


def _print_unknown(unknown, result):
    click.echo("\nCalled unknown:")
    print_rows([_row("of the known", result, "known_rejected"), *(unknown_rows(unknown) if unknown else [])])


def _print_candidates(candidates):
    click.echo(f"\nCandidates, to hold the truth for {percent(candidates['asked'])}:")
    print_rows(
        [
            _row("truth among them", candidates, "coverage"),
            ("on average", f"{candidates['mean_size']:.2f}", "candidates"),
            _row("none", candidates, "none"),
            _row("several", candidates, "several"),
        ]
    )
