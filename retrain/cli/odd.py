"""retrain odd"""

import click

from retrain import progress
from retrain.cli.shared import AS_JSON, MODEL_DIR, plain, show
from retrain.options import OddOptions


@click.command("odd")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option(
    "--label", metavar="LABEL", help="Find what is not this, a label of the trained model.  [default: compare them]"
)
@MODEL_DIR
@AS_JSON
def command(paths, as_json, **options):
    """Find the picture, or the pictures, among PATHs that do not belong: files, or folders of them.

    Without a label the pictures are compared with one another, and nothing has to be trained: that tells a dog among
    flowers, but rarely a rose among tulips. With a label that the model knows, each picture is judged for itself.

    This is for pictures and data sets, not for passing bot checks: nothing here drives a browser or answers a page.

    \b
    retrain odd a.jpg b.jpg c.jpg d.jpg
    retrain odd --label tree a.jpg b.jpg c.jpg d.jpg
    """
    from retrain.recipes.odd_one_out import find_odd_one_out

    with progress.shown():
        result = find_odd_one_out(paths, OddOptions(**options))
    show(result, as_json, _print)


def _print(result):
    for path, score in result["scores"].items():
        guess = result["guesses"].get(path)
        if guess:
            label = "unknown, perhaps a " * guess["unknown"] + guess["label"]
            click.echo(f"{plain(path)} is a {plain(label)} (score = {guess['confidence']:.5f})")
        else:
            click.echo(f"{plain(path)} (distance = {score:.5f})")
    click.echo(_answer(result["odd"], result["label"]))


def _answer(odd, label):
    named, label = ", ".join(map(plain, odd)), label and plain(label)
    if not odd:
        return "None stands out." if label is None else f"Each is a {label}: none stands out."
    if label is None:
        return f"The odd one out is: {named}" if len(odd) == 1 else f"The odd ones out are: {named}"
    return (
        f"The one that is not a {label} is: {named}" if len(odd) == 1 else f"Those that are not a {label} are: {named}"
    )
