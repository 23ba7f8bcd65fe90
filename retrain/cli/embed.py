"""retrain embed"""

import click

from retrain import progress
from retrain.cli.shared import AS_JSON, engine_options, not_empty, show
from retrain.options import EmbedOptions


@click.command("embed")
@click.argument("src", callback=not_empty)
@click.option(
    "--out", required=True, metavar="FOLDER", help="Parquet files go there; embeddings.parquet is a good name for it."
)
@click.option(
    "--backbone", metavar="NAME", default=EmbedOptions.backbone, show_default=True,
    help="A name that `retrain backbones` lists, or several joined by +.",
)  # fmt: skip
@engine_options
@AS_JSON
def command(src, out, as_json, **options):
    """Write the embeddings of all pictures below SRC, a folder or an address such as s3://bucket/photos.

    Each file is one row: path, sha256, bytes, embedding, error. A run that was stopped goes on where it was, and one
    that was not adds what is new.

    \b
    retrain embed photos --out embeddings.parquet
    retrain embed photos --out embeddings.parquet --engine ray --address auto
    python -c 'import pandas; print(pandas.read_parquet("embeddings.parquet"))'
    """
    from retrain.recipes.embedding import embed

    with progress.shown():
        result = embed(src, out, EmbedOptions(**options))
    show(result, as_json, _print)


def _print(result):
    known = result["rows"] - result["new"]
    before = f", {known} of them before" if known else ""
    click.echo(f"{result['rows']} row(s) of {result['dimensions']} numbers in {result['out']}{before}.")
