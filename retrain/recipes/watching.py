"""Watch: sort what lies in a folder, then what arrives there, each picture once it is whole.

The kernel tells which files were closed or renamed into place.  Where it does not (network drives, folders of another
machine, a full queue of events), a look over the folder finds what is new, and a file is taken once it stands still.
"""

import fcntl
import logging
import math
import os
import queue
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retrain.dataset import is_own, require_folder, walk
from retrain.errors import RetrainError
from retrain.parallel import chunks
from retrain.recipes.journal import BATCH, stamp_of
from retrain.recipes.sidecars import SIDECARS, group
from retrain.recipes.sorting import open_sorter

SETTLE_S = 1.5  # after a file was closed: its sidecars may be on their way
STILL_S = 5.0  # without a change, where nobody tells that a file was closed
LOST_S = 60.0  # without a change, where a file was seen open, or is empty: its closing may not be told
LONE_S = 30.0  # that a sidecar waits for its picture
LOOK_S = 10.0  # from one look over the folder to the next
LOOK_SHARE = 0.05  # of the time that looking may take
TICK_S = 0.2
UNFINISHED = ".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".tmp", ".temp", "~"

log = logging.getLogger("retrain")


@dataclass
class Waiting:
    """A file that is not filed yet."""

    stamp: tuple[int, int] | None  # size and mtime_ns
    since: float  # when it, or what is known of it, changed last
    wait_s: float  # to stand still


def watch_dir(source, destination, options, stop, tell=lambda row: None, classifier=None):
    """Sort what lies below `source` as `sort_dir` does, then what arrives, until `stop` (threading.Event) is set.

    tell: called with each file filed, or found to be no picture: {"path", "destination", "label", "confidence",
    "unknown", "error"}; destination is None where a file stays.  Returns what `sort_dir` returns.  Raises RetrainError.
    """
    _require_watchdog()
    if options.faces:
        raise RetrainError("what arrives is sorted by pictures, not by faces.", "Leave --faces out, or --watch.")
    with open_sorter(source, destination, options, classifier) as (sorter, classifier):
        events: queue.SimpleQueue = queue.SimpleQueue()
        with _observed(sorter.source, events) as tells_closing:
            _Watch(sorter, classifier, tell, stop, tells_closing).run(events)
    return sorter.result()


class _Watch:
    """Files wait here until they are whole, and their sidecars are there."""

    def __init__(self, sorter, classifier, tell, stop, tells_closing):
        self.sorter, self.classifier, self.tell, self.stop = sorter, classifier, tell, stop
        self.tells_closing = tells_closing
        self.waiting: dict[Path, Waiting] = {}
        self.done: dict[Path, tuple[int, int] | None] = {}  # with the stamp that they had
        self.pictures: dict[Path, tuple[Path, str]] = {}  # without suffix, and by name: where each was, and is now
        for entry in sorter.journal.entries.values():
            self._remember(Path(entry.source), entry.destination)

    def run(self, events):
        self._look(first=True)
        looked, next_look = time.monotonic(), 0.0
        while not self.stop.is_set():
            self._file_ready()
            self._take_events(events)
            if time.monotonic() - looked > next_look:
                start = time.monotonic()
                self._look()
                looked = time.monotonic()
                next_look = max(LOOK_S, (looked - start) / LOOK_SHARE)

    def _look(self, first=False):
        """Find what no event told of."""
        try:
            folder = require_folder(self.sorter.source)
        except RetrainError as error:
            raise RetrainError(f"{self.sorter.source} is gone: {error}", "Start again when it is back.") from error
        now = time.time_ns()
        for path in walk(folder, tell=first):
            path = _real(path)
            if path in self.waiting or _is_unfinished(path):
                continue
            entry = self._enter(path)
            if first and entry and now - entry.stamp[1] > STILL_S * 1e9:
                entry.since = -math.inf

    def _take_events(self, events):
        try:
            event = events.get(timeout=TICK_S)
            while True:
                self._take(event)
                event = events.get_nowait()
        except queue.Empty:
            pass

    def _take(self, event):
        """event: of watchdog."""
        path = Path(os.fsdecode(event.dest_path if event.event_type == "moved" else event.src_path))
        if event.event_type == "deleted" or path == Path():  # moved out
            return  # what is gone is seen when its turn comes
        if not _is_wanted(path, self.sorter.source):
            return
        if event.is_directory:
            for inside in walk(path, tell=False):
                if not _is_unfinished(inside):
                    self._enter(_real(inside))
        elif not _is_unfinished(path):
            self._enter(_real(path), event.event_type)

    def _enter(self, path, event=""):
        """Have a file wait that is new, or has changed since it was filed.  Returns its Waiting, or None."""
        stamp = stamp_of(path)
        if stamp is None or self.done.get(path) == stamp:
            return None
        if path not in self.waiting and self.sorter.journal.knows(path):
            self.done[path] = stamp
            return None
        wait_s = STILL_S
        if event in ("closed", "moved"):
            wait_s = SETTLE_S
        elif event == "modified" and self.tells_closing:
            wait_s = LOST_S
        # Firefox keeps the name of a picture that it fetches by an empty file.
        self.waiting[path] = Waiting(stamp, time.monotonic(), wait_s if stamp[0] else LOST_S)
        return self.waiting[path]

    def _file_ready(self):
        for some in chunks(list(self._ready()), BATCH):
            guesses = self.classifier.guess_files([files[0] for files, owner in some if not owner])
            for files, owner in some:
                if self.stop.is_set():
                    break
                self._file(files, owner, None if owner else next(guesses))
            self.sorter.journal.commit()

    def _ready(self):
        """Yield (files, owner) of the groups of files that are whole.

        owner: where the picture of a sidecar that came after it was, and where it is; or None.
        """
        now = time.monotonic()
        due = {path for path in list(self.waiting) if self._is_due(path, now)}
        folders = {path.parent for path in due}
        for files in group(sorted(path for path in self.waiting if path.parent in folders)):
            first = files[0]
            lone = first.suffix.lower() in SIDECARS
            owner = self.pictures.get(first.with_name(first.stem)) if lone else None
            if due.issuperset(files) and (owner or not lone or now - self.waiting[first].since >= LONE_S):
                yield files, owner

    def _is_due(self, path, now):
        """Whether a file has stood still long enough.  One that is gone is forgotten."""
        entry = self.waiting[path]
        if now - entry.since < entry.wait_s or not self._is_same(path):
            return False
        if entry.wait_s < LOST_S and _is_open_for_writing(path):
            self.waiting[path] = Waiting(entry.stamp, now, LOST_S)
        return self.waiting[path] is entry

    def _is_same(self, path):
        """Whether a file is as it was when looked at last.  Else it goes on waiting or, being gone, is forgotten."""
        entry, stamp = self.waiting[path], stamp_of(path)
        if stamp == entry.stamp:
            return True
        del self.waiting[path]
        if stamp:
            self.waiting[path] = Waiting(stamp, time.monotonic(), max(entry.wait_s, STILL_S))
        return False

    def _file(self, files, owner, guess):
        if not all([self._is_same(path) for path in files]):  # noqa: C419 - each is looked at
            return
        destination = self.sorter.attach(files, *owner) if owner else self.sorter.file(files, guess)
        self.done |= {path: self.waiting.pop(path).stamp for path in files}
        if destination and not owner:
            self._remember(files[0], destination)
        where = str(self.sorter.journal.folder / destination) if destination else None
        told = {name: getattr(guess, name, None) for name in ("label", "confidence", "unknown", "error")}
        self.tell({"path": str(files[0]), "destination": where, **told})

    def _remember(self, picture, destination):
        if picture.suffix.lower() not in SIDECARS:
            for name in (picture.stem, picture.name):
                self.pictures[picture.with_name(name)] = picture, destination


def _require_watchdog():
    try:
        import watchdog.observers  # noqa: F401
    except ImportError:
        raise RetrainError(
            "--watch needs watchdog, which is not installed.", "pip install 'retrain[watch]' brings it."
        ) from None


@contextmanager
def _observed(folder, events):
    """Put what happens below a folder into a queue.  Gives whether it tells that files were closed."""
    from watchdog.events import (
        DirCreatedEvent,
        DirMovedEvent,
        FileClosedEvent,
        FileCreatedEvent,
        FileModifiedEvent,
        FileMovedEvent,
        FileSystemEventHandler,
    )
    from watchdog.observers import Observer

    wanted = [DirCreatedEvent, DirMovedEvent, FileClosedEvent, FileCreatedEvent, FileModifiedEvent, FileMovedEvent]
    handler = FileSystemEventHandler()
    handler.dispatch = events.put  # type: ignore[method-assign]
    try:
        observer, tells_closing = Observer(generate_full_events=True), True  # type: ignore[call-arg]
    except TypeError:  # only inotify's tells of renames from elsewhere, and of closing
        observer, tells_closing = Observer(), False
    try:
        observer.schedule(handler, str(folder), recursive=True, event_filter=wanted)
        observer.start()
    except OSError as error:  # too many folders for the kernel, or none that it can watch
        log.warning("%s cannot be watched (%s): looked over every %.0f s.", folder, error.strerror, LOOK_S)
        yield False
        return
    try:
        yield tells_closing
    finally:
        observer.stop()
        observer.join()


def _is_wanted(path, source):
    """Whether `walk` would come to it."""
    inside = path.relative_to(source)
    above = [source / each for each in [inside, *inside.parents] if each != Path()]
    return not any(part.startswith(".") for part in inside.parts) and not any(map(is_own, above))


def _is_unfinished(path):
    """Whether it bears the name of a download that goes on."""
    return path.name.lower().endswith(UNFINISHED)


def _is_open_for_writing(path):
    """Whether somebody may go on writing a file.  Some network drives say so of every file, some systems of none."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # A lease is refused while a writer is there.  If one comes this moment, we are sent a signal, which is ignored.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a file system without leases
        return False
    finally:
        os.close(handle)
    return False


def _real(path):
    # As `group` has it: a move must take the file from where it really lies.
    return Path(os.path.realpath(path.parent)) / path.name
