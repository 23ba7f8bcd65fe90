"""retrain sample"""

import shlex
from pathlib import Path

import click

from retrain.options import SampleOptions

DEFAULTS = SampleOptions()


@click.command("sample")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--per-class", type=click.IntRange(1), default=DEFAULTS.per_class, show_default=True, help="Pictures.")
@click.option("--size", type=click.IntRange(16, 4096), default=DEFAULTS.size, show_default=True, help="Pixels a side.")
@click.option("--seed", type=int, default=DEFAULTS.seed, show_default=True, help="Another seed, other pictures.")
def command(out, per_class, size, seed):
    """Draw a small labelled picture set into the new folder OUT to try things on.

    \b
    Example:
      retrain sample photos
      retrain train photos
    """
    from retrain.recipes.sampling import SUBJECTS, draw_sample

    paths = draw_sample(out, SampleOptions(per_class=per_class, size=size, seed=seed))
    name = click.format_filename(out)
    click.echo(f"{len(paths)} pictures of {len(SUBJECTS)} classes ({', '.join(SUBJECTS)}) drawn into {name}")
    click.echo(f"Next: retrain train {shlex.quote(name)}")
