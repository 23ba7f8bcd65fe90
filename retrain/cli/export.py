"""retrain export"""

import click

from retrain import progress
from retrain.cli.shared import AS_JSON, MODEL_DIR, data_options, show
from retrain.options import ExportOptions, tf_files


@click.command("export")
@click.argument("what", type=click.Choice(["dataset"]))
@click.argument("out")
@click.option("--data", metavar="FOLDER", help="The pictures.  [default: $TF_FILES/data, or tf_files/data]")
@click.option(
    "--size", type=click.IntRange(8, 512), default=ExportOptions.size, show_default=True, help="Pixels a side, square."
)
@click.option(
    "--crop", type=click.FloatRange(0, 1, min_open=True), default=ExportOptions.crop, show_default=True,
    help="Share of the shorter side, around the middle; 0.875 is what the networks see.",
)  # fmt: skip
@data_options
@MODEL_DIR
@AS_JSON
def command(what, out, data, as_json, **options):
    """Write something for use without retrain, into the new or empty folder OUT.

    dataset: the pictures as train splits them and the networks see them, cropped to the middle, as JPEGs in
    OUT/training/<class>, OUT/validation/<class> and OUT/testing/<class>. OUT/manifest.jsonl tells where each comes
    from.

    \b
    retrain export dataset exported --data photos
    retrain export dataset exported --data photos --size 224 --balance cut
    """
    from retrain.recipes.exporting import export_dataset

    with progress.shown():
        result = export_dataset(data or tf_files() / "data", out, ExportOptions(**options))
    show(result, as_json, _print)


def _print(result):
    for part, images in result["parts"].items():
        click.echo(f"{part:10} {images:7}")
    click.echo(f"Exported: {result['out']}, in {result['seconds']:.1f} s")
