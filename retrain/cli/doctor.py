"""retrain doctor"""

import textwrap

import click

from retrain.cli.shared import AS_JSON, print_json

COLORS = {"fine": "green", "note": "yellow", "broken": "red"}


@click.command("doctor")
@click.option("--clean", is_flag=True, help="Empty our caches instead: built backbones and stored embeddings.")
@AS_JSON
def command(clean, as_json):
    """Look at this machine: each line is fine, or says what to do.

    Exits with 1 where something that retrain needs is broken.

    \b
    retrain doctor
    retrain doctor --clean
    """
    if clean:
        _clean(as_json)
    elif _examine(as_json):
        raise SystemExit(1)


def _clean(as_json):
    from retrain.recipes import doctoring

    freed = doctoring.clean()
    if as_json:
        print_json({"freed_bytes": sum(freed.values()), "removed": [str(path) for path in freed]})
    else:
        for path in freed:
            click.echo(path)
        click.echo(f"{doctoring.megabytes(sum(freed.values()))} freed")


def _examine(as_json):
    """Print each finding as it comes; returns how many are broken."""
    from retrain.recipes import doctoring

    rows, broken = [], 0
    for name, finding in doctoring.examine():
        rows.append({"name": name, **finding._asdict()})
        broken += finding.status == doctoring.BROKEN
        if not as_json:
            _print(name, finding)
    if as_json:
        print_json({"checks": rows, "broken": broken})
    return broken


def _print(name, finding):
    click.echo(f"{click.style(f'{finding.status:7}', fg=COLORS[finding.status])} {name:12} {finding.text}")
    if finding.hint:
        click.echo(textwrap.indent(finding.hint, " " * 21))
