"""retrain report"""

import sys
import webbrowser
from pathlib import Path

import click

from retrain.cli.shared import MODEL_DIR
from retrain.errors import RetrainError
from retrain.options import default_model_dir


@click.command("report")
@MODEL_DIR
@click.option(
    "--open/--no-open", "opened", default=None, help="Open it in the browser.  [default: where this is a terminal]"
)
def command(model_dir, opened):
    """Say where the report of a model is, and open it in the browser.

    train writes it beside the model: one page that needs no other file and no network.

    \b
    retrain report
    retrain report --no-open
    """
    from retrain.model import REPORT

    page = Path(model_dir or default_model_dir(), REPORT)
    if not page.is_file():
        raise RetrainError(
            f"there is no report in {page.parent}.", "retrain train DATA writes one, unless told --no-report."
        )
    click.echo(page)
    wanted = sys.stdout.isatty() if opened is None else opened
    if wanted and not webbrowser.open(page.absolute().as_uri()) and opened:
        raise RetrainError("no browser could be started.", f"Open {page} by hand.")
