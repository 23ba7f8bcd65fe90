"""retrain sample"""

import shlex

import click

from retrain.cli import program
from retrain.options import SampleOptions


@click.command("sample")
@click.argument("out")
@click.option(
    "--per-class", type=click.IntRange(1), default=SampleOptions.per_class, show_default=True, help="Pictures."
)
@click.option(
    "--size", type=click.IntRange(16, 4096), default=SampleOptions.size, show_default=True, help="Pixels a side."
)
@click.option("--seed", type=int, default=SampleOptions.seed, show_default=True, help="Another seed, other pictures.")
def command(out, **options):
    """Draw a small labelled picture set into the new folder OUT to try things on.

    \b
    retrain sample photos
    retrain train photos
    """
    from retrain.recipes.sampling import SUBJECTS, draw_sample

    paths = draw_sample(out, SampleOptions(**options))
    click.echo(f"{len(paths)} pictures of {len(SUBJECTS)} classes ({', '.join(SUBJECTS)}) drawn into {out}")
    click.echo(f"Next: {program()} train {shlex.quote(out)}")
