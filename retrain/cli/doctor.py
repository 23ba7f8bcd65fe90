"""retrain doctor"""

import json
import textwrap

import click

COLORS = {"fine": "green", "note": "yellow", "broken": "red"}


@click.command("doctor")
@click.option("--clean", is_flag=True, help="Empty our caches instead: built backbones and stored embeddings.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context, clean, as_json):
    """Look at this machine: each line is fine, or says what to do.

    Exits with 1 where something that retrain needs is broken.

    \b
    Example:
      retrain doctor
      retrain doctor --clean
    """
    from retrain.recipes import doctoring

    if clean:
        freed = doctoring.clean()
        removed = [click.format_filename(path) for path in freed]
        if as_json:
            click.echo(json.dumps({"freed_bytes": sum(freed.values()), "removed": removed}))
        else:
            click.echo("\n".join([*removed, f"{doctoring.megabytes(sum(freed.values()))} freed"]))
        return
    findings = {}
    for name, finding in doctoring.examine():
        findings[name] = finding
        if not as_json:
            _print(name, finding)
    broken = sum(finding.status == doctoring.BROKEN for finding in findings.values())
    if as_json:
        rows = [{"name": name, **finding._asdict()} for name, finding in findings.items()]
        click.echo(json.dumps({"checks": rows, "broken": broken}))
    context.exit(1 if broken else 0)


def _print(name, finding):
    click.echo(f"{click.style(f'{finding.status:7}', fg=COLORS[finding.status])} {name:12} {finding.text}")
    if finding.hint:
        click.echo(textwrap.indent(finding.hint, " " * 21))
