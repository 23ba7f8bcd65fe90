"""retrain clean"""

import os
import shlex

import click

from retrain import progress
from retrain.cli import FILES_FAILED, plain, program
from retrain.cli.shared import AS_JSON, ONLY, names, print_json
from retrain.options import CleanOptions

EXAMPLES = 3  # a check


@click.command("clean")
@click.argument("data")
@ONLY
@click.option(
    "--apply", is_flag=True, default=CleanOptions.apply, help="Move what says quarantine to tf_files/quarantine."
)
@click.option("--undo", is_flag=True, help="Put back all that was moved from DATA.")
@click.option(
    "--checks", metavar="CHECK,…", default="", callback=names,
    help="Only these, and --apply moves what any of them finds.",
)  # fmt: skip
@click.option("--html", metavar="FILE", help="Write a page that shows the suspects.")
@AS_JSON
@click.pass_context
def command(ctx, data, undo, as_json, **options):
    """Find the pictures below DATA that would harm a training, and say why.

    Nothing is changed without --apply, and nothing is ever deleted. Of the checks, unreadable, identical,
    near_duplicate, blank and tiny say quarantine: these are sure. two_labels, wrong_label, dark, blurred and odd_shape
    say review, unless --checks names them. Of copies one stays. The plan is kept in tf_files/clean.

    \b
    retrain clean photos --html suspects.html
    retrain clean photos --apply
    retrain clean photos --checks wrong_label --apply
    retrain clean photos --undo
    """
    if not undo:
        _clean(data, CleanOptions(**options), as_json)
    elif any(options.values()):
        raise click.UsageError("--undo takes DATA and --json, nothing else.", ctx)
    else:
        _undo(data, as_json)


def _clean(data, options, as_json):
    from retrain.recipes.cleaning import clean

    with progress.shown():
        result = clean(data, options)
    if as_json:
        print_json(result)
    else:
        _print(result, data, options)
    _fail_for(result["left"], as_json)


def _print(result, data, options):
    folder, width = os.path.realpath(data), max(map(len, result["counts"]))
    for check, count in result["counts"].items():
        found = [finding for finding in result["findings"] if finding["check"] == check]
        actions = sorted({finding["action"] for finding in found})
        click.echo(f"{check:{width}} {count:7}  {', '.join(actions)}".rstrip())
        for finding in found[:EXAMPLES]:
            # One line a finding, whatever a name holds.
            paths = ", ".join(plain(os.path.relpath(path, folder)) for path in finding["paths"][:EXAMPLES])
            more = ", …" if len(finding["paths"]) > EXAMPLES else ""
            click.echo(f"{'':{width}}          {paths}{more}: {plain(finding['reason'])}")
        if count > EXAMPLES:
            click.echo(f"{'':{width}}          … and {count - EXAMPLES} more")
    click.echo(f"Plan: {result['plan']}")
    again = f"{program()} clean {shlex.quote(data)}"
    waiting = sum(
        len(finding["paths"]) - bool(finding["keep"])
        for finding in result["findings"]
        if finding["action"] == "quarantine"
    )
    if result["moved"]:
        click.echo(f"{result['moved']} file(s) moved to {result['quarantine']}. Undo: {again} --undo")
    elif waiting and not options.apply:
        checks = f" --checks {','.join(options.checks)}" if options.checks else ""
        click.echo(f"To quarantine: {again}{checks} --apply")


def _undo(data, as_json):
    from retrain.recipes.cleaning import undo_clean

    with progress.shown():
        result = undo_clean(data)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['restored']} file(s) put back.")
    _fail_for(result["left"], as_json)


def _fail_for(left, as_json):
    if left:
        if not as_json:
            for row in left:
                click.echo(plain(f"{row['path']}: {row['reason']}"))
        click.echo(f"{len(left)} file(s) left where they are.", err=True)
        raise SystemExit(FILES_FAILED)
