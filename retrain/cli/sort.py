"""retrain sort"""

import shlex
import sys

import click

from retrain import progress
from retrain.cli import FILES_FAILED, asked_to_end, plain, program
from retrain.cli.shared import AS_JSON, MODEL_DIR, engine_options, face_options, print_json, trust_options
from retrain.options import SortOptions
from retrain.recipes.sorting import LAYOUTS, MODES, sort_dir, undo_sort


@click.command("sort")
@click.argument("src", required=False)
@click.argument("dst", required=False)
@click.option(
    "--mode", type=click.Choice(MODES), default=SortOptions.mode, show_default=True,
    help="link: a hard link, a second name for the same file.",
)  # fmt: skip
@click.option(
    "--layout", type=click.Choice(LAYOUTS), default=SortOptions.layout, show_default=True,
    help="folders: DST/elsa/picture.jpg. flat: DST/elsa-0.99621.jpg.",
)  # fmt: skip
@trust_options
@face_options("With a model of faces: file a picture under everybody who is on it.")
@MODEL_DIR
@engine_options
@click.option("--dry-run", is_flag=True, default=SortOptions.dry_run, help="Print what would go where, change nothing.")
@click.option("--watch", is_flag=True, help="Go on with what arrives in SRC, until Ctrl-C.")
@click.option("--undo", metavar="DST", help="Take back all that was sorted into DST.")
@AS_JSON
@click.pass_context
def command(ctx, src, dst, undo, watch, as_json, **options):
    """Sort the pictures below SRC into DST by what is on them, into one folder a label.

    What is unlike all that was learned goes to _unknown, what may be several labels of a --coverage to _ambiguous, what
    is not a picture to _error. Sidecars (.xmp, .json, RAW, Live Photo
    .mov) go with their picture. Nothing is ever overwritten; a second run goes on with what is new.

    With --faces pictures without a face go to _no_face, those of nobody known to _unknown.

    With --watch a line a picture is printed as it is filed. Files still being written are waited for, names of
    unfinished downloads (.part, .crdownload, .tmp) left alone. Ctrl-C ends it with the counts.

    \b
    retrain sort holiday sorted
    retrain sort holiday sorted --mode move --threshold 0.9
    retrain sort holiday sorted --coverage 0.95
    retrain sort camera sorted --watch
    retrain sort --undo sorted
    """
    if undo is not None:
        _check_alone(ctx)
        _undo(undo, as_json)
    elif dst is None:
        raise click.UsageError("Name SRC and DST, or --undo DST.", ctx)
    elif watch and (options["dry_run"] or options["engine"] != SortOptions.engine):
        raise click.UsageError("--watch goes together with neither --dry-run nor --engine.", ctx)
    elif watch:
        _watch(src, dst, SortOptions(**options), as_json)
    else:
        _sort(src, dst, SortOptions(**options), as_json)


def _check_alone(ctx):
    given = [name for name in ctx.params if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if set(given) - {"undo", "as_json"}:
        raise click.UsageError("--undo takes DST and --json, nothing else.", ctx)


def _sort(src, dst, options, as_json):
    with progress.shown():
        result = sort_dir(src, dst, options)
    _tell(result, dst, as_json)


def _watch(src, dst, options, as_json):
    from retrain.recipes.watching import watch_dir

    def tell(row):
        if as_json:
            print_json(row)
        else:
            click.echo(plain(f"{row['path']} -> {row['destination'] or 'stays'}"))
        sys.stdout.flush()

    with asked_to_end() as stop:
        result = watch_dir(src, dst, options, stop, tell)
    _tell(result, dst, as_json)


def _tell(result, dst, as_json):
    if as_json:
        print_json(result)
    else:
        _print(result, dst)
    if result["errors"]:
        click.echo(f"{result['errors']} file(s) failed.", err=True)
        raise SystemExit(FILES_FAILED)


def _print(result, dst):
    for row in result.get("plan", []):
        click.echo(plain(f"{row['source']} -> {row['destination']}"))
    others = "unknown", "ambiguous", "no_face", "errors"
    rows = result["sorted"] | {name: result[name] for name in others if result.get(name)}
    width = max(map(len, rows), default=0)
    for name, count in rows.items():
        click.echo(f"{plain(name):{width}} {count:7}")
    if "plan" not in result:
        click.echo(f"Undo: {program()} sort --undo {shlex.quote(dst)}")


def _undo(dst, as_json):
    with progress.shown():
        result = undo_sort(dst)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['restored']} file(s) undone.")
        for row in result["left"]:
            click.echo(plain(f"{row['path']}: {row['reason']}"))
    if result["left"]:
        click.echo(f"{len(result['left'])} file(s) left.", err=True)
        raise SystemExit(FILES_FAILED)
