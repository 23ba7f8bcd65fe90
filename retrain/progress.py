"""Progress of long work.  Silent unless a command line asks for bars."""

import os
import sys
import time
from contextlib import contextmanager

SHORT = 20  # items; less work than this shows no bar

_shown = False
_listener = None


@contextmanager
def shown():
    """Within this, `track` shows what it does on stderr."""
    global _shown
    _shown = True
    try:
        yield
    finally:
        _shown = False


@contextmanager
def told(listen):
    """Within this, `track` calls listen(description, done, total) at each item; what that raises ends the work."""
    global _listener
    before, _listener = _listener, listen
    try:
        yield
    finally:
        _listener = before


def stage(description):
    """Tell who listens what begins now, where it cannot be counted."""
    if _listener:
        _listener(description, 0, 0)


def track(items, description, total):
    """Yield the items; where progress is shown, with a bar, rate and time left, or one closing line off a terminal."""
    if _listener:
        yield from _told(_listener, items, description, total)
    elif not _shown or total < SHORT:
        yield from items
    elif sys.stderr.isatty() or os.environ.get("TTY_INTERACTIVE") == "1":  # rich knows that variable too
        yield from _bar(items, description, total)
    else:
        start, count = time.perf_counter(), 0
        for item in items:
            yield item
            count += 1
        seconds = time.perf_counter() - start
        print(f"{description}: {count} in {seconds:.1f} s ({count / max(seconds, 1e-9):.0f}/s)", file=sys.stderr)


def _told(listen, items, description, total):
    listen(description, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        listen(description, done, total)


def _bar(items, description, total):
    # Imported here: rich costs a quick command more time than its work.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            return Text(f"{task.finished_speed or task.speed or 0:.0f}/s")

    name = TextColumn("{task.description}", markup=False)
    columns = name, BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=description)
