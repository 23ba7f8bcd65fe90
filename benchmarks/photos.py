"""What the benchmarks run on."""

import os
from pathlib import Path

import click

from retrain import draw_sample
from retrain.options import SampleOptions

DRAWN = SampleOptions(per_class=160)


def find_photos(data, scratch):
    """The folder asked for, else the flower photos of RETRAIN_TEST_DATA, else a sample drawn now."""
    if data:
        return Path(data)
    flowers = Path(os.environ.get("RETRAIN_TEST_DATA", "")) / "flowers" / "train"
    if os.environ.get("RETRAIN_TEST_DATA") and flowers.is_dir():
        return flowers
    click.echo("RETRAIN_TEST_DATA names no folder with flowers/train: measuring on drawn pictures instead.", err=True)
    draw_sample(scratch / "drawn", DRAWN)
    return scratch / "drawn"
