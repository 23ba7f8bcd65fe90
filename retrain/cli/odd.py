"""retrain odd"""

import click

from retrain import progress
from retrain.cli import plain
from retrain.cli.shared import AS_JSON, MODEL_DIR, crawl_options, not_empty, show, show_failures
from retrain.options import OddOptions


@click.command("odd")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--label", metavar="LABEL", callback=not_empty, help="Find what is not this.  [default: compare them]")
@click.option(
    "--data", metavar="DATA",
    help="Folder of the model's classes, which gets a new one.  [default: $TF_FILES/data, or tf_files/data]",
)  # fmt: skip
@crawl_options(OddOptions)
@MODEL_DIR
@AS_JSON
def command(paths, as_json, **options):
    """Find the picture, or the pictures, among PATHs that do not belong: files, or folders of them.

    Without a label the pictures are compared with one another, and nothing has to be trained: that tells a dog among
    flowers, but rarely a rose among tulips. With a label that the model knows, each picture is judged for itself. A
    label that it does not know is learned first, from pictures in DATA/LABEL, or where there are none, from pictures
    crawled for it: the model is trained anew with that class added. Where there is no other class, how far each picture
    is from those decides.

    This is for pictures and data sets, not for passing bot checks: nothing here drives a browser or answers a page.

    \b
    retrain odd a.jpg b.jpg c.jpg d.jpg
    retrain odd --label tree a.jpg b.jpg c.jpg d.jpg
    """
    from retrain.recipes.odd_one_out import find_odd_one_out

    with progress.shown():
        result = find_odd_one_out(paths, OddOptions(**options))
    show_failures(result["failures"])
    show(result, as_json, _print)


def _print(result):
    if result["learned"]:
        click.echo(f"Learned {plain(result['label'])} from {result['learned']} pictures.")
    if result["by"] == "pictures of the label":
        click.echo("There is no other class to tell it from: the distance to these pictures decides.")
    for path, score in result["scores"].items():
        click.echo(plain(f"{path} {_what_it_is(result['guesses'].get(path), result['label'], score)}"))
    click.echo(_answer(result["odd"], result["label"]))


def _what_it_is(guess, label, score):
    if guess:
        article = "unknown, perhaps a" if guess["unknown"] else "a"
        return f"is {article} {guess['label']} (score = {guess['confidence']:.5f})"
    return f"(distance = {score:.5f})" if label is None else f"is a {label} (score = {1 - score:.5f})"


def _answer(odd, label):
    named, label = ", ".join(map(plain, odd)), label and plain(label)
    if not odd:
        return "None stands out." if label is None else f"Each is a {label}: none stands out."
    if label is None:
        return f"The odd one out is: {named}" if len(odd) == 1 else f"The odd ones out are: {named}"
    return (
        f"The one that is not a {label} is: {named}" if len(odd) == 1 else f"Those that are not a {label} are: {named}"
    )
