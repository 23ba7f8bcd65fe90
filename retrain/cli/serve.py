"""retrain serve"""

import importlib.util
import os
from urllib.parse import quote

import click

from retrain.cli.shared import MODEL_DIR, trust_options
from retrain.errors import RetrainError
from retrain.options import ServeOptions, default_model_dir


def _strip(_context, _option, token):
    """Without blanks around it, which no header can bring."""
    return token and token.strip()


@click.command("serve")
@click.option("--host", default=ServeOptions.host, show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=ServeOptions.port, show_default=True, help="0: any that is free."
)
@click.option("--name", default=ServeOptions.name, show_default=True, help="Of the model, in TF Serving and KServe.")
@click.option(
    "--token", envvar="RETRAIN_TOKEN", callback=_strip, help="Each request must bring it.  [default: $RETRAIN_TOKEN]"
)
@click.option("--insecure", is_flag=True, help="Listen on other addresses without a token.")
@click.option(
    "--data", metavar="FOLDER", help="The class folders that Studio shows.  [default: $TF_FILES/data, or tf_files/data]"
)
@click.option(
    "--allow", metavar="FOLDER", multiple=True, help="A folder that Studio may sort, beside those in TF_FILES."
)
@trust_options
@MODEL_DIR
def command(**options):
    """Open Studio, and serve the model over HTTP, until Ctrl-C.

    The page at the address that it prints is Studio: add classes and pictures, train, try, correct, sort and export.
    Other programs POST pictures to /guess, or ask as one asks TensorFlow Serving (/v1) or KServe (/v2); /docs has all
    of it. A model trained meanwhile takes the old one's place by itself.

    \b
    retrain serve
    retrain serve --data photos --allow holiday
    curl -F file=@picture.jpg http://127.0.0.1:8080/guess
    RETRAIN_TOKEN=sesame retrain serve --host 0.0.0.0
    """
    if importlib.util.find_spec("fastapi") is None:
        raise RetrainError(
            "this needs FastAPI, which is not installed.", "make setup, or pip install 'retrain[serve]'."
        )
    from retrain.model import identity
    from retrain.serve.running import serve

    chosen = ServeOptions(**options)
    if identity(chosen.model_dir or default_model_dir()) is None:
        click.echo("There is no model yet: Studio trains one, and so does retrain train.", err=True)
    serve(chosen, lambda address: click.echo(_told(address, chosen.token)))


def _told(address, token):
    for everywhere, here in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
        address = address.replace(everywhere, here)
    # After the # it stays in the browser.
    secret = f"#token={quote(os.fsencode(token))}" if token else ""
    return f"Serving {address}{secret}  (Ctrl-C stops)"
