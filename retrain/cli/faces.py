"""retrain faces"""

import sys

import click

from retrain.cli import plain
from retrain.cli.shared import AS_JSON, MODEL_DIR, print_json


@click.command("faces")
@click.option("--forget", "label", metavar="LABEL", help="Delete all that is kept of this person's face.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@MODEL_DIR
@AS_JSON
@click.pass_context
def command(ctx, label, yes, model_dir, as_json):
    """List whose faces `retrain train --faces` has kept, or forget somebody's.

    To forget deletes what was cut out of their photos, all that the embedding store keeps of these, and every model of
    faces there that has learned them; the others are learned again in seconds. Your photos stay: take the person's out
    before you train again.

    \b
    retrain faces
    retrain faces --forget anna
    """
    if label is None:
        if yes:
            raise click.UsageError("--yes is for --forget.", ctx)
        _list(model_dir, as_json)
    else:
        _forget(ctx, label, yes, model_dir, as_json)


def _list(model_dir, as_json):
    from retrain.recipes.forgetting import kept_faces

    kept = kept_faces(model_dir)
    if as_json:
        print_json(kept)
    elif not kept:
        click.echo("No faces are kept.")
    for name, count in {} if as_json else kept.items():
        click.echo(f"{count:7}  {plain(name)}")


def _forget(ctx, label, yes, model_dir, as_json):
    from retrain.recipes.forgetting import forget, kept_faces, models_of

    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked here: add --yes.", ctx)
        models = "".join(f", and the model {folder}" for folder in models_of(label, model_dir))
        count = kept_faces(model_dir).get(label, 0)
        question = f"Delete {count} face(s) of {label}, their embeddings{models}?"
        click.confirm(plain(question), abort=True, err=True)
    result = forget(label, model_dir)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result):
    click.echo(f"{result['crops']} face(s) and {result['embeddings']} row(s) of the embedding store deleted.")
    for folder in result["models"]:
        click.echo(plain(f"{folder} deleted: the model had learned them. Train again without them."))
    if result["photos"]:
        click.echo("Your photos of them stay where they are:")
    for path in result["photos"]:
        click.echo(plain(f"  {path}"))
