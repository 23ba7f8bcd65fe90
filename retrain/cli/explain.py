"""retrain explain"""

import click

from retrain import progress
from retrain.cli import FILES_FAILED, plain
from retrain.cli.shared import AS_JSON, MODEL_DIR, print_json
from retrain.options import ExplainOptions
from retrain.recipes.explaining import explain_pictures


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--out", metavar="FOLDER", required=True, help="Where the pictures are written.")
@click.option("--label", metavar="LABEL", help="What to look for.  [default: what each picture is taken for]")
@MODEL_DIR
@AS_JSON
def command(paths, out, as_json, **options):
    """Show what on each PATH, picture files or folders of them, speaks for its label.

    Three files a picture: NAME-original.jpg, NAME-heatmap.jpg (the brighter, the more it counts) and NAME-segment.jpg
    (the part that counts). The networks see the middle square of a picture, so there is no heat beside it. Nothing is
    ever overwritten: a name that is taken gets a number.

    \b
    retrain explain picture.jpg --out explained
    retrain explain holiday --out explained --label elsa
    """
    failed = 0
    with progress.shown():
        for row in explain_pictures(paths, out, ExplainOptions(**options)):
            failed += row["error"] is not None
            if as_json:
                print_json(row)
            elif row["error"]:
                click.echo(plain(f"{row['path']}: {row['error']}"), err=True)
            else:
                guess = f"{row['label']} (score = {row['confidence']:.5f})"
                click.echo(plain(f"{row['path']}: {guess} -> {row['heatmap']}"))
    if failed:
        click.echo(f"{failed} file(s) failed.", err=True)
        raise SystemExit(FILES_FAILED)
