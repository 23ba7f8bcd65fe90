"""retrain train"""

import click
from click.core import ParameterSource

from retrain import progress
from retrain.cli import plain
from retrain.cli.scores import print_classes, print_labels, print_per_label, print_rows, unknown_rows
from retrain.cli.shared import AS_JSON, MODEL_DIR, accuracy_line, data_options, face_options, percent, show
from retrain.options import QUALITIES, TrainOptions

WEAKEST = 12  # classes listed where there are more


@click.command("train")
@click.argument("data")
@MODEL_DIR
@click.option(
    "--quality", type=click.Choice(list(QUALITIES)), default=TrainOptions.quality, show_default=True,
    help="fast: one backbone. good: two side by side, about twice the time. best: and one that is fine-tuned, a "
    "few minutes more.",
)  # fmt: skip
@click.option(
    "--backbone", metavar="NAME[+NAME]",
    help="Instead of a quality; retrain backbones lists them, and says how to bring your own.",
)  # fmt: skip
@click.option("--fine-tune", is_flag=True, help="Let the backbone learn on, too; kept where that helps.")
@click.option(
    "--max-minutes", type=click.FloatRange(0, min_open=True), default=TrainOptions.max_minutes, show_default=True,
    metavar="N", help="For fine-tuning.",
)  # fmt: skip
@click.option("--log-dir", metavar="FOLDER", help="Write TensorBoard's event files of the fine-tuning there.")
@click.option(
    "--like", metavar="MODEL",
    help="Train with the options of this model, a folder or a model.json; what is typed beside it wins. Says what is "
    "not as it was then: pictures, versions, machine.",
)  # fmt: skip
@data_options
@click.option(
    "--multi-label", is_flag=True,
    help="A picture that lies in several class folders has all their labels; a labels.csv in DATA says so by itself.",
)  # fmt: skip
@face_options("Learn of each picture the face that it shows; DATA has one folder a person. See docs/faces.md.")
@click.option(
    "--seed", type=int, default=TrainOptions.seed, show_default=True, help="Deals the folds of cross-validation."
)
@click.option(
    "--reject-rate", type=click.FloatRange(0, 1, max_open=True), default=TrainOptions.reject_rate, show_default=True,
    metavar="SHARE", help="Of the pictures guessed right, let guess and sort call about this share unknown.",
)  # fmt: skip
@click.option(
    "--report/--no-report", default=TrainOptions.report,
    help="Write report.html beside the model, and look what would make it better.",
)  # fmt: skip
@AS_JSON
@click.pass_context
def command(context, data, like, as_json, **options):
    """Teach a model the categories of DATA: one folder a class, whose name is the label.

    Deeper folders belong to their class. A DATA with train/ and test/ inside is used as such. Pictures in a folder
    _unknown are never learned: they only measure how well the unknown is told.

    Where pictures have several labels, DATA/labels.csv names them: a first line path,labels, then a line a picture such
    as party.jpg,anna;ben, the path from DATA on; between labels stands ; or |, and a picture without labels shows none
    of them. DATA/train and DATA/test may have one each. Guesses then list every label above its threshold.

    \b
    retrain train photos
    retrain train photos --quality good --only daisy,roses
    retrain train photos --multi-label
    retrain train photos --balance cut --min-size 224x224
    retrain train photos --like model.json --model-dir again
    """
    from retrain.recipes.repeating import train_like
    from retrain.recipes.training import train

    with progress.shown():
        if like is None:
            result = train(data, TrainOptions(**options))
        else:
            defaults = {name for name in options if context.get_parameter_source(name) is ParameterSource.DEFAULT}
            result = train_like(like, data, **{name: options[name] for name in options.keys() - defaults})
    show(result, as_json, _print)


def _print(result):
    if result.get("multi_label"):
        _print_multilabel(result)
        return
    click.echo(f"{result['images']} pictures, {len(result['classes'])} classes: {plain(', '.join(result['classes']))}")
    weights = sorted((weight, name) for name, weight in (result["class_weights"] or {}).items())
    if weights and weights[0][0] < weights[-1][0]:
        (low, large), (high, small) = weights[0], weights[-1]
        counts = f"a picture of {plain(large)} counts {low:.2f}, one of {plain(small)} {high:.2f}"
        click.echo(f"Classes weighted by their size: {counts}")
    if result["left_out"]:
        click.echo(f"Pictures left out, to have fewer a class: {result['left_out']}")
    if result["accuracy"] is None:
        click.echo("Accuracy: not measured, too few pictures.")
    elif result["accuracy_from"] == "test":
        click.echo(f"Accuracy on {result['test_images']} pictures kept back: {accuracy_line(result)}")
    elif result["accuracy_from"] == "cross-validation":
        click.echo(f"Accuracy by cross-validation: {accuracy_line(result)}")
    else:
        count = result["judged_images"]
        click.echo(f"Accuracy on {count} pictures that chose the fine-tuning's end: {accuracy_line(result)}")
    if result["judged_images"]:
        _print_classes(result)
        errors = result["calibration"]
        click.echo(f"Calibration error: {percent(errors['ece'])} (before scaling {percent(errors['ece_before'])})")
    _print_unknown(result["unknown"])
    if result["fine_tuning"]:
        _print_fine_tuning(result["fine_tuning"])
    _print_end(result)


def _print_end(result):
    for sentence in result["advice"]:
        click.echo(f"- {plain(sentence)}")
    if result.get("differences") == []:
        click.echo("All is as it was, and the head is the same, byte for byte.")
    click.echo(f"Model: {result['model_dir']}, trained in {result['seconds']:.1f} s")


def _print_fine_tuning(tuned):
    if not tuned["kept"]:
        click.echo(f"Fine-tuning discarded: {tuned['why']}.")
        return
    accuracies = f"{percent(tuned['accuracy'])} right, {percent(tuned['accuracy_frozen'])} without"
    click.echo(f"Fine-tuning kept, for {tuned['share']:.0%} of each guess: of {tuned['validation_images']} validation "
               f"pictures {accuracies}")  # fmt: skip


def _print_multilabel(result):
    labels = f"{len(result['classes'])} labels: {plain(', '.join(result['classes']))}"
    click.echo(f"{result['images']} pictures, {result['labels_per_image']:.2f} labels on each of {labels}")
    key, tested = "mean_average_precision", result["accuracy_from"] == "test"
    where = f"on {result['test_images']} pictures kept back" if tested else "by cross-validation"
    if result[key] is None:
        click.echo("Mean average precision: not measured, too few pictures.")
    else:
        click.echo(f"Mean average precision {where}: {accuracy_line(result, key)}")
        print_labels(result)
    if result["judged_images"]:
        _print_classes(result, print_per_label)
    if result["unknown"]["images"]:
        click.echo("Without a label:")
        print_rows(unknown_rows(result["unknown"]))
    _print_end(result)


def _print_classes(result, print_table=print_classes):
    weakest = sorted(result["per_class"].items(), key=lambda entry: entry[1]["f1"] or 0)[:WEAKEST]
    shown = {name: scores for name, scores in result["per_class"].items() if name in dict(weakest)}
    few = f" The weakest {WEAKEST} classes:" if len(shown) < len(result["per_class"]) else ""
    click.echo(f"\n{result['judged_images']} pictures, each judged unseen (95 % intervals in brackets).{few}")
    print_table(shown)
    click.echo("")


def _print_unknown(unknown):
    if unknown["calibrated_on"] < unknown["needed"]:
        click.echo(
            f"Too few pictures to tell the unknown: {unknown['calibrated_on']} give a limit, {unknown['needed']} are "
            f"needed for a reject rate of {unknown['reject_rate']:g}."
        )
    elif unknown["images"]:
        click.echo("Called unknown:")
        print_rows(unknown_rows(unknown))
