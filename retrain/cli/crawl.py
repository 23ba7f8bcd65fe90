"""retrain crawl"""

import shlex
from pathlib import Path

import click

from retrain import progress
from retrain.cli import FILES_FAILED, plain, program
from retrain.cli.shared import AS_JSON, crawl_options, print_json, show_failures
from retrain.errors import RetrainError
from retrain.options import CrawlOptions, default_data


def _classes(_context, _parameter, values):
    """`daisy=bellis perennis,daisy flower`, several times."""
    classes: dict[str, tuple] = {}
    for value in values:
        label, _, queries = value.partition("=")
        queries = tuple(filter(None, map(str.strip, queries.split(","))))
        if not label.strip() or not queries:
            raise click.BadParameter('such as daisy="bellis perennis,daisy flower".')
        classes[label.strip()] = classes.get(label.strip(), ()) + queries
    return classes


@click.command("crawl")
@click.argument("keywords", nargs=-1)
@click.option("--out", metavar="DATA", help="Folder of the pictures.  [default: $TF_FILES/data, or tf_files/data]")
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="LABEL=QUERY,…",
    callback=_classes,
    help="A class, and what to search for; may be given several times.",
)
@click.option("--query-list", metavar="FILE", help="A file with a keyword a line; lines that begin with # are none.")
@crawl_options(CrawlOptions)
@AS_JSON
def command(keywords, out, classes, query_list, as_json, **options):
    """Fetch pictures of each KEYWORD into a folder of its name below DATA.

    For data sets of pictures: manifest.jsonl says of each where it comes from, who made it and what its licence is,
    ATTRIBUTION.md names the authors. Only documented interfaces are asked, and no oftener than they allow; nothing here
    drives a browser or answers a page. What was interrupted goes on where it stopped. A query that begins with
    Category: names a category of Wikimedia Commons. With --source urls a keyword names a text file with an address a
    line; behind it may stand, parted by tabs, licence, author and landing page. A key of Flickr is expected in
    RETRAIN_FLICKR_KEY; one of Openverse, ID:SECRET in RETRAIN_OPENVERSE_KEY, allows more requests. Google and Bing tell
    no licences, and their terms may forbid to ask them by a program; make setup-full brings what they need.

    \b
    retrain crawl daisy rose --out photos --limit 300
    retrain crawl --class daisy="bellis perennis,daisy flower" --out photos
    retrain crawl my-daisies.txt --source urls --license any --out photos
    """
    from retrain.fetch import ANONYMOUS
    from retrain.recipes.crawling import crawl

    keywords = list(filter(None, map(str.strip, [*keywords, *(_lines(query_list) if query_list else [])])))
    # A file of addresses names its class by its stem.
    labels = {Path(word).stem if options["sources"] == ("urls",) else word: (word,) for word in keywords} | classes
    if not labels:
        raise click.UsageError("Name what to look for.")
    out = out or str(default_data())
    with progress.shown():
        result = crawl(labels, out, CrawlOptions(**options))
    if as_json:
        print_json(result)
    else:
        _print(result, out)
    show_failures(result["failures"])
    if any(row["kind"] != ANONYMOUS for row in result["failures"]):
        raise SystemExit(FILES_FAILED)


def _lines(path):
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise RetrainError(f"{path} cannot be read: {error}.", "Name a text file with a keyword a line.") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _print(result, out):
    from retrain.recipes.crawling import explain_reason

    for label, row in result["classes"].items():
        click.echo(f"{plain(label)}: {row['pictures']} pictures, {row['new']} of them new")
        for reason, count in sorted(row["refused"].items(), key=lambda pair: -pair[1]):
            click.echo(f"  {count:6} refused: {explain_reason(reason)}")
    click.echo(f"Sources, authors and licences: {result['manifest']}")
    click.echo(f"Next: {program()} clean {shlex.quote(out)}")
