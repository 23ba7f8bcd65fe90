"""python -m benchmarks [NAME…]: tables on stderr, one JSON object a benchmark on stdout."""

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click

from benchmarks.common import Bench, compile_byte_code, measure, publish
from benchmarks.photos import find_photos

NAMES = [
    "train", "embedding", "guess", "retrain_cached", "sort", "memory", "scale", "duplicates", "labels", "trust",
    "odd", "explain", "imagenet", "together", "frontier", "fine_tuning", "many_classes", "exports",
    "serve", "compat", "cluster", "video", "faces",
]  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--data", help="Folder with a folder a class.  [default: RETRAIN_TEST_DATA/flowers, or a drawn sample]")
@click.option(
    "--repeats", type=click.IntRange(1), default=5, show_default=True, help="Runs of each side; medians count."
)
@click.option(
    "--counts",
    default=",".join(map(str, Bench.counts)),
    show_default=True,
    help="Pictures that scale takes, from few to many.",
)
def main(names, data, repeats, counts):
    """Run all benchmarks, or those named, each beside its peer in alternating runs."""
    counts = tuple(map(int, counts.split(",")))
    compile_byte_code()
    with tempfile.TemporaryDirectory(prefix="retrain-bench-") as scratch:
        photos = find_photos(data, Path(scratch))
        for name in names or NAMES:
            click.echo(f"{name} …", err=True)
            folder = Path(scratch) / name
            folder.mkdir()
            # In a process of its own: a child's peak memory counts what its parent held when starting it.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                publish(name, pool.submit(measure, name, Bench(photos, folder, repeats, counts)).result())


if __name__ == "__main__":
    sys.exit(main())
