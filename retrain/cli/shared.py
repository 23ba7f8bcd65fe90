"""Options and output that several commands share."""

import json
import re

import click

from retrain.cli import FILES_FAILED, plain
from retrain.options import (
    BALANCES,
    ENGINES,
    SPLITS,
    DataOptions,
    EngineOptions,
    FaceOptions,
    FilmOptions,
    TrustOptions,
)

NAMED = 10  # skipped files named on a terminal

MODEL_DIR = click.option(
    "--model-dir", metavar="FOLDER", help="The model's folder.  [default: $TF_FILES/model, or tf_files/model]"
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def not_empty(_context, _parameter, value):
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty.")
    return value


def names(_context, _parameter, value):
    return tuple(filter(None, map(str.strip, value.split(","))))


ONLY = click.option("--only", metavar="CLASS,…", default="", callback=names, help="Only these classes.")


def sides(_context, _parameter, value):
    """`224x160`, or one number for both."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", value)
    if not match:
        raise click.BadParameter("such as 224x224, width and height in pixels.")
    return int(match[1]), int(match[2] or match[1])


def trust_options(command):
    """The options of TrustOptions."""
    return _add(command, [
        click.option(
            "--threshold", type=click.FloatRange(0, 1), default=TrustOptions.threshold, show_default=True,
            help="Below this confidence a picture is unknown.",
        ),
        click.option(
            "--reject-rate", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE",
            help="Call about this share of the pictures guessed right unknown; 0: none.  [default: as trained]",
        ),
        click.option(
            "--coverage", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
            help="Name so many labels that the true one is among them for this share of pictures: none is unknown, "
            "several are ambiguous.",
        ),
    ])  # fmt: skip


def engine_options(command):
    """The options of EngineOptions."""
    return _add(command, [
        click.option(
            "--engine", type=click.Choice(ENGINES), default=EngineOptions.engine, show_default=True,
            help="ray: a Ray cluster computes, see docs/scale.md.",
        ),
        click.option(
            "--address", metavar="HOST:PORT",
            help="Of the cluster; auto: the one this machine belongs to.  [default: one of this machine alone]",
        ),
    ])  # fmt: skip


def face_options(what):
    """The options of FaceOptions.  what: --faces does."""
    options = [
        click.option("--faces", is_flag=True, default=FaceOptions.faces, help=what),
        click.option(
            "--i-have-consent", is_flag=True, default=FaceOptions.i_have_consent,
            help="With --faces: the people on these pictures agreed, crawled ones included.",
        ),
    ]  # fmt: skip
    return lambda command: _add(command, options)


def graph_options(command):
    """`--graph` and `--labels`, and the options of GraphOptions."""
    side = "px of the pictures that enter the graph.  [default: as it says]"
    return _add(command, [
        click.option(
            "--graph", metavar="FILE", help="Guess with a frozen graph of TensorFlow 1, such as retrain.py wrote."
        ),
        click.option(
            "--labels", metavar="FILE",
            help="The graph's labels, one a line.  [default: beside retrained_graph.pb, retrained_labels.txt]",
        ),
        click.option(
            "--input-layer", metavar="NAME", help="Where a picture enters the graph.  [default: as it says]"
        ),
        click.option(
            "--output-layer", metavar="NAME", help="Where the graph ends.  [default: final_result, or as it says]"
        ),
        click.option("--input-height", type=click.IntRange(1), metavar="N", help=f"Height in {side}"),
        click.option("--input-width", type=click.IntRange(1), metavar="N", help=f"Width in {side}"),
        click.option(
            "--input-mean", type=float, metavar="X",
            help="Taken from pixels of 0-255 before they enter the graph.  [default: as graphs of its kind want it]",
        ),
        click.option("--input-std", type=float, metavar="X", help="What the pixels are divided by then."),
    ])  # fmt: skip


def crawl_options(defaults):
    """The options of CrawlOptions.  defaults: that class, or one that extends it."""
    options = [
        click.option(
            "--source", "sources", metavar="SOURCE,…", callback=names, default=",".join(defaults.sources),
            show_default=True,
            help="openverse, wikimedia, inaturalist, flickr, urls; google and bing with --license any alone.",
        ),
        click.option(
            "--license", "licence", type=click.Choice(["safe", "commercial", "any"]), default=defaults.licence,
            show_default=True, help="safe: what may be reused and changed, also commercially. commercial: also what "
            "may not be changed. any: also what has no licence, or none that is known.",
        ),
        click.option(
            "--limit", type=click.IntRange(1), default=defaults.limit, show_default=True,
            help="Pictures a class, with those that are there.",
        ),
        click.option(
            "--max-per-source", type=click.IntRange(1), metavar="N", help="Pictures of a class from one source."
        ),
        click.option(
            "--min-size", metavar="WxH", default="{}x{}".format(*defaults.min_size), callback=sides, show_default=True,
            help="Leave out pictures of fewer pixels.",
        ),
    ]  # fmt: skip
    return lambda command: _add(command, options)


def data_options(command):
    """The options of DataOptions."""
    return _add(command, [
        ONLY,
        click.option(
            "--split", type=click.Choice(SPLITS), default=DataOptions.split, show_default=True,
            help="content: copies stay together, wherever they lie. legacy: as the original retrain.py, by a hash of "
            "the path as typed; moving data then moves pictures between the parts.",
        ),
        click.option(
            "--test-share", type=click.FloatRange(0, 0.9), default=DataOptions.test_share, show_default=True,
            help="Share of the pictures kept back to measure. 0: train on all, measure by cross-validation.",
        ),
        click.option(
            "--validation-share", type=click.FloatRange(0, 0.9), default=DataOptions.validation_share,
            show_default=True, help="Share of the pictures set apart for validation; train learns from these, too.",
        ),
        click.option(
            "--group-by", metavar="REGEX", default=DataOptions.group_by,
            help=r"Keep pictures together whose names have the same first group in it, such as the bursts of "
            r"'(IMG_\d+)'.",
        ),
        click.option(
            "--balance", type=click.Choice(BALANCES), default=DataOptions.balance, show_default=True,
            help="weight: small classes count as much as large ones. cut: all classes to the size of the smallest.",
        ),
        click.option(
            "--max-per-class", type=click.IntRange(1), metavar="N", help="Use at most so many pictures a class."
        ),
        click.option(
            "--min-size", metavar="WxH", default="0", callback=sides, help="Leave out pictures of fewer pixels."
        ),
    ])  # fmt: skip


def film_options(command):
    """`--every`, `--fps` and `--smooth`, which make FilmOptions, and `--out`."""
    return _add(command, [
        click.option(
            "--every", metavar="TIME", callback=_time,
            help="In films, look at a frame each 0.5s, 2s, 1min, or at every `frame`.  [default: 0.2s]",
        ),
        click.option(
            "--fps", type=click.FloatRange(0, min_open=True), metavar="N", help="The same, by frames a second."
        ),
        click.option(
            "--smooth", metavar="TIME", callback=_time,
            help="In films, so long a time tells as much as one picture: the longer, the fewer segments. 0: each frame "
            "stands for itself.  [default: 0.5s]",
        ),
        click.option(
            "--out", metavar="FOLDER",
            help="Write there of each film its frames and segments as CSV, JSON and WebVTT, and a contact sheet.",
        ),
    ])  # fmt: skip


def film_choices(every, fps, smooth):
    """FilmOptions of what was typed.  Raises UsageError."""
    if every is not None and fps is not None:
        raise click.UsageError("--every and --fps say the same; name one of them.")
    if fps is not None:
        every = 1 / fps
    chosen = {"every_s": every, "smooth_s": smooth}
    return FilmOptions(**{name: value for name, value in chosen.items() if value is not None})


UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "min": 60, "h": 3600}  # s


def _time(_context, parameter, value):
    """Seconds of `0.5s`, `200ms`, `2`, `1min`, and 0 of `frame`."""
    if value is None or (parameter.name == "every" and value.strip() == "frame"):
        return value and 0.0
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", value)
    if not match or match[2] not in UNITS:
        raise click.BadParameter("such as 0.5s, 200ms or 1min.")
    return float(match[1]) * UNITS[match[2]]


def _add(command, options):
    for option in reversed(options):
        command = option(command)
    return command


def print_json(value):
    text = json.dumps(value, ensure_ascii=False)
    # A file name that is no UTF-8 would make the whole line invalid: escape it, and json.loads gives it back.
    click.echo(text if text.isprintable() else json.dumps(value))


def percent(share):
    return f"{100 * share:.1f} %"


def accuracy_line(result, key="accuracy"):
    """`91.0 % (95 % interval 88.1-93.3 %)`."""
    low, high = result[f"{key}_interval"]
    return f"{percent(result[key])} (95 % interval {100 * low:.1f}-{percent(high)})"


def show_failures(failures):
    """Name on stderr the sources that did not answer."""
    for row in failures:
        click.echo(plain(f"{row['source']}, {row['query']}: {row['reason']}"), err=True)


def show(result, as_json, print_text, error=None):
    """Print a result, name on stderr the files that were no pictures, and let the exit code tell of them.

    error: what else is wrong with the result, which is more than a bad file; raised once all is printed.
    """
    skipped = result["skipped"]
    for row in skipped[:NAMED]:
        click.echo(plain(f"skipped {row['path']}: {row['reason']}"), err=True)
    if len(skipped) > NAMED:
        click.echo(f"… and {len(skipped) - NAMED} more; --json lists them all.", err=True)
    if skipped:
        click.echo(f"{len(skipped)} file(s) skipped.", err=True)
    if as_json:
        print_json(result)
    else:
        print_text(result)
    if error:
        raise error
    if skipped:
        raise SystemExit(FILES_FAILED)
