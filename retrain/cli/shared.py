"""Options and output that several commands share."""

import json

import click

MODEL_DIR = click.option(
    "--model-dir", metavar="FOLDER", help="The model's folder.  [default: $TF_FILES/model, or tf_files/model]"
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ONLY = click.option(
    "--only", metavar="CLASS,…", default="", callback=lambda _, __, value: tuple(filter(None, value.split(","))),
    help="Only these classes.",
)  # fmt: skip


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


def report_skipped(skipped, shown=10):
    """Name the files that were no pictures, on stderr."""
    for row in skipped[:shown]:
        click.echo(f"skipped {row['path']}: {row['reason']}", err=True)
    if len(skipped) > shown:
        click.echo(f"… and {len(skipped) - shown} more; --json lists them all.", err=True)
    if skipped:
        click.echo(f"{len(skipped)} file(s) skipped.", err=True)
