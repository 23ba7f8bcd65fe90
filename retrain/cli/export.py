"""retrain export"""

from pathlib import Path

import click

from retrain import progress
from retrain.cli.shared import AS_JSON, MODEL_DIR, data_options, show
from retrain.exports import COMPARED, FORMATS
from retrain.options import DatasetOptions, ExportOptions, default_data, default_export

DATASET = "dataset"


@click.command("export")
@click.argument("formats", metavar="FORMAT…", nargs=-1, required=True, type=click.Choice([*FORMATS, DATASET]))
@click.option(
    "--out", metavar="FOLDER", help="Each format has a folder there.  [default: $TF_FILES/export, or tf_files/export]"
)
@click.option(
    "--data", metavar="FOLDER",
    help="The pictures.  [default: those that the model has learned; of dataset $TF_FILES/data, or tf_files/data]",
)  # fmt: skip
@click.option(
    "--size", type=click.IntRange(8, 512), default=DatasetOptions.size, show_default=True,
    help="Of dataset: pixels a side, square.",
)  # fmt: skip
@click.option(
    "--crop", type=click.FloatRange(0, 1, min_open=True), default=DatasetOptions.crop, show_default=True,
    help="Of dataset: share of the shorter side, around the middle; 0.875 is what the networks see.",
)  # fmt: skip
@data_options
@MODEL_DIR
@AS_JSON
def command(formats, out, data, model_dir, as_json, **options):
    """Write something for use without retrain, into OUT/FORMAT, with a README that tells how to run it.

    \b
    saved_model  for TensorFlow and TF Serving; takes pictures' bytes or pixels
    keras        a .keras file for Keras 3
    tflite       for LiteRT, Android Studio and MediaPipe, in float32
    tflite-int8  the same in int8: smaller and faster
    onnx         for ONNX Runtime
    pb           retrained_graph.pb, for programs made for TensorFlow 1
    zip          the model folder itself, to hand on
    dataset      the pictures as train splits them and the networks see them: as JPEGs in
                 training/<class>, validation/<class> and testing/<class>; manifest.jsonl
                 tells where each comes from. Options below that are of train are for it.

    Each model is run on 16 pictures and compared with our own guesses before it is there.

    \b
    retrain export tflite onnx
    retrain export dataset --out exported --data photos --size 224 --balance cut
    """
    result: dict = {"exports": [], "skipped": []}
    models = [name for name in formats if name != DATASET]
    with progress.shown():
        if models:
            from retrain.exports.writing import export

            result["exports"] += export(models, ExportOptions(model_dir, out, data))
        if DATASET in formats:
            from retrain.recipes.exporting import export_dataset

            folder = Path(out or default_export()) / DATASET
            told = export_dataset(data or default_data(), folder, DatasetOptions(model_dir=model_dir, **options))
            result["skipped"] = told.pop("skipped")
            result["exports"].append({"format": DATASET} | told)
    show(result, as_json, _print)


def _print(result):
    for told in result["exports"]:
        if told["format"] == DATASET:
            for part, images in told["parts"].items():
                click.echo(f"{part:10} {images:7}")
            click.echo(f"Exported: {told['out']}, in {told['seconds']:.1f} s")
        else:
            _print_model(told)


def _print_model(told):
    head = told["head"]
    if head["refitted"]:
        click.echo(f"{told['format']}: head fitted to float32 on {head['pictures']} pictures.")
    elif head["why"]:
        click.echo(f"{told['format']}: the model's own head, for {head['why']}.")
    elif told["differences"]:
        click.echo(f"{told['format']}: the model's own head.")
    for what, each in told["differences"].items():
        click.echo(
            f"  {COMPARED[what]}: largest difference {each['max']:.1e}, median {each['median']:.1e}, "
            f"same label {each['agreed']} of {each['pictures']}"
        )
    click.echo(f"Exported: {told['folder']}, in {told['seconds']:.1f} s")
