"""The command line: one file a command, loaded only when called."""

import importlib
import io
import logging
import os
import re
import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any

import click

import retrain
from retrain.errors import RetrainError

# Commands in the order of their use, and what --help says of each without loading it.
COMMANDS = {
    "crawl": "Fetch pictures of things named, with their authors and licences.",
    "learn": "From the names of classes to the pictures of a folder recognised.",
    "train": "Teach a model the categories of a folder.",
    "guess": "Say what is on pictures.",
    "imagenet": "Say which of ImageNet's 1,000 classes is on pictures; nothing has to be trained.",
    "sort": "Sort pictures into folders by what is on them.",
    "evaluate": "Measure a model on pictures it has not seen.",
    "report": "Open the page that shows how good a model is.",
    "explain": "Show what on pictures speaks for their label.",
    "odd": "Find the picture that does not belong with the others.",
    "clean": "Find pictures that harm a training: copies, wrong labels, damaged or dark ones.",
    "faces": "List whose faces are kept, and forget somebody's.",
    "serve": "Open Studio in the browser, and serve the model over HTTP.",
    "export": "Write a model, or the split and cropped pictures, for use elsewhere.",
    "embed": "Write the embeddings of any number of pictures as Parquet files.",
    "sample": "Draw a small labelled picture set to try things on.",
    "backbones": "List the pretrained networks.",
    "doctor": "Check this machine, and say what to do.",
}
FILES_FAILED = 3  # exit code: done, but some files failed
# Joiners, which scripts and emoji are written with, and bytes of names that are not UTF-8.
KEPT = {"\u200c", "\u200d", *map(chr, range(0xDC80, 0xDD00))}


class Commands(click.Group):
    """Finds a command's module by its name."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, cmd_name):
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"retrain.cli.{cmd_name}").command

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(retrain.__version__, prog_name="retrain")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug):
    """Teach an image classifier your own categories, on your own machine, in seconds.

    \b
    retrain train photos            one folder a class: photos/cat, photos/dog
    retrain guess picture.jpg
    retrain sort holiday sorted
    """


def program():
    """How the user can call retrain: the wrappers of a clone say where it is."""
    return shlex.quote(os.environ.get("RETRAIN_PROGRAM", "retrain"))


def plain(name):
    """A name or sentence that stays on its line and gives the terminal no orders."""
    return "".join(letter if letter.isprintable() or letter in KEPT else "?" for letter in name)


class _PlainFormatter(logging.Formatter):
    """Tells messages, which may hold names of files."""

    def formatMessage(self, record):
        return plain(super().formatMessage(record))


def main():
    """Run the command line and exit: 0 done, 1 an error, 2 usage, 3 some files failed, 130 interrupted, 143 stopped."""
    _open_closed_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, _stop)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("retrain").setLevel(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # file names leave as they came
    try:
        code = cli.main(prog_name="retrain", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = 130
    except _Stopped as stopped:
        code = 128 + stopped.number
    except BrokenPipeError:  # head and the like close early
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except RetrainError as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"Error: {plain(str(error))}", err=True)
        if error.hint:
            click.echo(f"Hint: {plain(re.sub('^retrain(?= )', lambda _: program(), error.hint))}", err=True)
        code = error.exit_code
    except OSError as error:  # what no command foresaw, such as a full disk behind stdout
        if "--debug" in sys.argv:
            raise
        click.echo(f"Error: {error}.\nHint: --debug shows where it came from.", err=True)
        code = 1
    sys.exit(code)


class _Stopped(BaseException):
    """A signal that asks to end: it unwinds as Ctrl-C does, so that nothing is left half done."""

    def __init__(self, number):
        self.number = number


def _stop(number, _frame):
    # In a container retrain is the first process, on which a signal without a handler has no effect.
    raise _Stopped(number)


@contextmanager
def asked_to_end():
    """threading.Event that is set when the user or the system asks to end; asked again, it ends at once."""
    event = threading.Event()
    before: dict[int, Any] = {}

    def ask(number, _frame):
        event.set()
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # of nohup
            before[number] = signal.signal(number, ask)
    try:
        yield event
    finally:
        for asked, handler in before.items():
            signal.signal(asked, handler)


def _open_closed_streams():
    """A stream closed by the shell, as by `2>&-`, is empty; else the next file opened would take its place."""
    for name, mode in [("stdin", "r"), ("stdout", "w"), ("stderr", "w")]:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
