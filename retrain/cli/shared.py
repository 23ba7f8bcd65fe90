"""Options and output that several commands share."""

import json

import click

from retrain.cli import FILES_FAILED

NAMED = 10  # skipped files named on a terminal

MODEL_DIR = click.option(
    "--model-dir", metavar="FOLDER", help="The model's folder.  [default: $TF_FILES/model, or tf_files/model]"
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def names(_context, _parameter, value):
    return tuple(filter(None, map(str.strip, value.split(","))))


ONLY = click.option("--only", metavar="CLASS,…", default="", callback=names, help="Only these classes.")


def print_json(value):
    text = json.dumps(value, ensure_ascii=False)
    # A file name that is no UTF-8 would make the whole line invalid: escape it, and json.loads gives it back.
    click.echo(text if text.isprintable() else json.dumps(value))


def percent(share):
    return f"{100 * share:.1f} %"


def accuracy_line(result):
    """`91.0 % (95 % interval 88.1-93.3 %)`."""
    low, high = result["accuracy_interval"]
    return f"{percent(result['accuracy'])} (95 % interval {100 * low:.1f}-{percent(high)})"


def show(result, as_json, print_text):
    """Print a result, name on stderr the files that were no pictures, and let the exit code tell of them."""
    skipped = result["skipped"]
    for row in skipped[:NAMED]:
        click.echo(f"skipped {row['path']}: {row['reason']}", err=True)
    if len(skipped) > NAMED:
        click.echo(f"… and {len(skipped) - NAMED} more; --json lists them all.", err=True)
    if skipped:
        click.echo(f"{len(skipped)} file(s) skipped.", err=True)
    if as_json:
        print_json(result)
    else:
        print_text(result)
    if skipped:
        raise SystemExit(FILES_FAILED)
