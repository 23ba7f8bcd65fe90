"""Files put elsewhere so that it can be undone: every step is written down before it is taken.

The journal is one hidden file of JSON lines, ASCII only, in the folder where the files go.  Its paths are relative to
that folder, but for sources; a byte of a name that is not UTF-8 stands as a lone surrogate (PEP 383).  The lines:

    {"tool": "retrain sort", "version": 1}  the first one; or "retrain clean"
    {"folder": PATH}          about to be made
    {"files": [{…}, …]}       about to be filed, all or none; the fields are those of Entry
    {"done": true}            all files above are in place and safe on the disk, the sources of moves are gone
    {"forget": [PATH, …]}     what stands at these destinations, if anything, is not ours (any more)
    {"times": {FOLDER: [NS, NS]}}  when a folder of sources was changed last, before and after files were moved from it

A kill leaves a file whole at its source, at its destination or at both.  Opening the journal again finishes what
stands after the last "done".  (On file systems without hard links a kill may also leave an empty file: a name claimed.)
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from stat import S_ISREG

from retrain.errors import RetrainError
from retrain.parallel import ordered_map
from retrain.progress import track

NAMES = {"sort": ".retrain-sort.jsonl", "clean": "retrain-clean.jsonl"}  # of the journal, by command
BATCH = 50  # pictures brought to the disk together: while that goes on, guessing waits
# Between file systems, on file systems without hard links, and for files that are somebody else's.
CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
# Where it is of no use to go on with the next file.
HINTS = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT), "Make room and run the same command again: it goes on where it stopped."
) | {
    errno.EXDEV: "Hard links cannot cross file systems: use --mode copy.",
    errno.EROFS: "Name a folder that you may write to.",
}


@dataclass(frozen=True)
class Entry:
    """One file that was put from its source (absolute) to its destination (below the journal's folder)."""

    source: str
    destination: str
    mode: str  # copy | move | link
    sha256: str
    size: int  # bytes
    mtime_ns: int
    reason: str = ""

    @property
    def stamp(self):
        return self.size, self.mtime_ns


class Journal:
    """What was filed below a folder.  Made by itself it only reads; `Journal.open` is there to file and to undo."""

    _stream: io.FileIO

    def __init__(self, folder, tool="sort"):
        """tool: a key of NAMES.  Raises RetrainError where the folder's journal is somebody else's or damaged."""
        self.folder = Path(folder)
        self.path = self.folder / NAMES[tool]
        self.header = {"tool": f"retrain {tool}", "version": 1}
        self.entries: dict[str, Entry] = {}  # by destination
        self.folders: list[str] = []  # made by us
        self.times: dict[str, list[int]] = {}  # folder of sources → its mtime_ns before and after the moves
        self.failed: dict[str, str] = {}  # source of a move → why it is still there
        self._kept: dict[str, list[Entry]] = defaultdict(list)  # those whose source was to stay where it is, by source
        self._unfinished: list[list[Entry]] = []
        self._length = self._read()

    @classmethod
    @contextmanager
    def open(cls, folder, tool="sort"):
        """Journal of a folder, both made where missing, that no other process can open meanwhile."""
        made = list(takewhile(lambda path: not path.exists(), [folder, *folder.parents]))
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, tool):
            journal = cls(folder, tool)
            with open(journal.path, "ab", buffering=0) as journal._stream:
                journal._start(made)
                try:
                    yield journal
                except BaseException:
                    with suppress(OSError):
                        journal._recover()
                    raise
                journal.commit()

    def file(self, pairs, mode, reason=""):
        """Put each (source, destination) or, on an OSError, none of them; FileExistsError where a name is taken."""
        group, placed = [_entry(source, destination, mode, reason) for source, destination in pairs], []
        self._write({"files": [vars(entry) for entry in group]})
        try:
            for entry in group:
                put(entry.source, self._target(entry), mode, entry.sha256)
                placed.append(entry)
        except OSError:
            self._take_back(group, placed)
            raise

    def make_folder(self, name):
        """Make a folder below the journal's where there is none."""
        path = self.folder / name
        if not path.is_dir():
            if os.path.lexists(path):
                raise OSError(errno.ENOTDIR, f"{path} is not a folder")
            self._write({"folder": name})
            path.mkdir()

    def knows(self, path):
        """Whether that file was copied or linked here before, has not changed, and was not deleted here since."""
        entries = [entry for entry in self._kept.get(str(path), ()) if self.entries.get(entry.destination) is entry]
        here = [entry for entry in entries if os.path.lexists(self._target(entry)) or entry.stamp in self._stamps]
        return any(
            stamp_of(path) == entry.stamp or _is_same(path, self._target(entry)) or holds(path, entry.sha256)
            for entry in here
        )

    def commit(self, at_least=1):
        """Bring what was filed to the disk, and only then remove the sources of moves.  Waits for so many groups."""
        if len(self._unfinished) < at_least:
            return
        targets = {self._target(entry): entry for group in self._unfinished for entry in group}
        copies = [target for target, entry in targets.items() if not _is_same(entry.source, target)]
        for _ in ordered_map(sync, [*copies, *{target.parent for target in targets}, self.folder]):
            pass
        os.fsync(self._stream.fileno())
        moved = {target: entry for target, entry in targets.items() if entry.mode == "move"}
        before = _mtimes({str(Path(entry.source).parent) for entry in moved.values()})
        for target, entry in moved.items():
            if os.path.lexists(entry.source):
                self._remove_source(entry, target)
        if moved:
            self._note_times(before)
        self._write({"done": True})

    def undo(self):
        """Take back what can be taken back without harm.  Returns how many files, and {path: reason} of those left."""
        entries, left = list(self.entries.values())[::-1], {}
        now = _mtimes(self.times)
        unchanged = {folder: before for folder, (before, after) in self.times.items() if now.get(folder) == after}
        for entry in track(entries, "Undoing", len(entries)):
            target = self._target(entry)
            try:
                reason = _undo(entry, Path(entry.source), target)
            except OSError as error:
                reason = error.strerror
            if reason:
                left[str(target)] = reason
            else:
                self._write({"forget": [entry.destination]})
        for folder, mtime in unchanged.items():
            with suppress(OSError):
                os.utime(folder, ns=(os.stat(folder).st_atime_ns, mtime))
        if not left:
            self.path.unlink()
        for folder in self.folders[::-1]:
            with suppress(OSError):  # not empty
                Path(os.path.normpath(self.folder / folder)).rmdir()
        return len(entries) - len(left), left

    def _start(self, made):
        if self._stream.tell() > self._length:
            self._stream.truncate(self._length)
        if not self._length:
            self._write(self.header)
        for path in reversed(made):
            self._write({"folder": os.path.relpath(path, self.folder)})
        self._recover()

    def _recover(self):
        """Finish what is in place already; take back the rest, whose sources are whole."""
        for group in list(self._unfinished):
            for entry in group:
                _clear_temporary(self._target(entry), entry.sha256)
            placed = {entry: self._target(entry) for entry in group if holds(self._target(entry), entry.sha256)}
            if len(placed) < len(group):
                self._take_back(group, [entry for entry in placed if _is_spare(placed[entry], entry.source, entry)])
        self.commit()

    def _take_back(self, group, placed):
        for entry in placed:
            self._target(entry).unlink()
        self._write({"forget": [entry.destination for entry in group]})

    def _read(self):
        """Take in the file's lines.  Returns its length up to the last whole one: a kill may tear a line."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        if not content.startswith(_line(self.header)[: len(content)]):
            tool = self.header["tool"]
            raise RetrainError(f"{self.path} was not written by this version of {tool}.", "Name another folder.")
        length = content.rfind(b"\n") + 1
        try:
            for line in content[:length].splitlines():
                self._take(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise RetrainError(f"{self.path} is damaged: {error}.", "Name another folder.") from error
        return length

    def _take(self, line):
        match line:
            case {"files": [*rows]}:
                group = [_checked(Entry(**row)) for row in rows]
                self.entries |= {entry.destination: entry for entry in group}
                for entry in group:
                    if entry.mode != "move":
                        self._kept[entry.source].append(entry)
                self._unfinished.append(group)
            case {"forget": [*destinations]}:
                for destination in destinations:
                    self.entries.pop(destination, None)
                left = ([entry for entry in group if entry.destination in self.entries] for group in self._unfinished)
                self._unfinished = [group for group in left if group]
            case {"folder": str(folder)}:
                self.folders.append(folder)
            case {"times": dict(times)} if all(map(_is_span, times.values())):
                self.times |= times
            case {"done": True}:
                self._unfinished.clear()
            case _ if line != self.header:
                raise ValueError(f"unknown line {line}")

    def _write(self, line):
        data = _line(line)
        if self._stream.write(data) != len(data):
            self._stream.truncate(self._length)  # no torn line in the middle
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._length += len(data)
        self._take(line)

    def _note_times(self, before):
        """Note the times of folders just moved from; where somebody else changed one between two batches, forget it."""
        after, times = _mtimes(before), {}
        for folder in after.keys() & before.keys():
            first, last = self.times.get(folder, (before[folder], before[folder]))
            times[folder] = [first if last == before[folder] else after[folder], after[folder]]
        self._write({"times": times})

    def _remove_source(self, entry, target):
        source = Path(entry.source)
        if not _is_spare(source, target, entry) or not (_is_same(source, target) or holds(source, entry.sha256)):
            self.failed[entry.source] = "it changed meanwhile, and is kept beside what was filed"
            return
        try:
            source.unlink()
        except OSError as error:
            self._take_back([entry], [entry])
            self.failed[entry.source] = str(error.strerror)

    def _target(self, entry):
        return self.folder / entry.destination

    @cached_property
    def _stamps(self):
        """Stamps of all that is here: by these a file is known that somebody moved on to another label."""
        return {stamp_of(path) for path in self.folder.rglob("*")}


@contextmanager
def plain_errors(destination):
    """An OSError in here becomes a RetrainError that says where."""
    try:
        yield
    except BrokenPipeError:  # of who reads what is printed meanwhile
        raise
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "Name a folder that you may write to.")
        raise RetrainError(f"cannot work in {destination}: {error.strerror or error}.", hint) from error


def _undo(entry, source, target):
    """Give the source its content back, then remove the target.  Returns the reason where that cannot be."""
    moved = entry.mode == "move"
    if not os.path.lexists(target):
        return None if not moved or holds(source, entry.sha256) else "it is no longer there"
    if target.is_symlink() or not holds(target, entry.sha256):
        return "it was changed since"
    if moved:
        _clear_temporary(source, entry.sha256)
        if not os.path.lexists(source):
            source.parent.mkdir(parents=True, exist_ok=True)
            put(target, source, "move", entry.sha256)
    if not _is_spare(target, source, entry):
        return "something else stands at its old place" if moved else "its original is gone or has changed"
    if moved and not _is_same(source, target):
        sync(source)
        sync(source.parent)
    target.unlink()
    return None


def _line(value):
    return json.dumps(value).encode() + b"\n"


def _is_span(value):
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)


def _checked(entry):
    """The entry, if it may be ours; a journal can come from a stranger.  Raises ValueError."""
    texts = entry.source, entry.destination, entry.mode, entry.sha256, entry.reason
    if not (
        all(isinstance(text, str) and "\0" not in text for text in texts)
        and type(entry.size) is type(entry.mtime_ns) is int
        and entry.mode in ("copy", "move", "link")
        and os.path.isabs(entry.source)  # noqa: PTH117 - as text, for Path would take away its dots
        and not os.path.isabs(entry.destination)  # noqa: PTH117
        and ".." not in Path(entry.destination).parts
    ):
        raise ValueError(f"no entry of ours: {entry}")
    return entry


def _entry(source, destination, mode, reason):
    status = os.stat(source)
    return Entry(str(source), destination, mode, _sha256(source), status.st_size, status.st_mtime_ns, reason)


def _mtimes(paths):
    times = {}
    for path in paths:
        with suppress(OSError):
            times[path] = os.stat(path).st_mtime_ns
    return times


def stamp_of(path):
    """Size in bytes and time of the last change in ns, by which a file is known; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def put(source, target, mode, sha256):
    """Make target of source.  Never overwrites, not even what appears this moment: raises FileExistsError."""
    if mode != "copy":
        try:
            os.link(os.path.realpath(source), target)
            return
        except OSError as error:
            if mode == "link" or error.errno not in CANNOT_LINK:
                raise
    temporary = _temporary(target, sha256)
    try:
        # A kill may have left it as a second name of a file in place: never write into that.
        temporary.unlink(missing_ok=True)
        shutil.copyfile(source, temporary)
        with suppress(PermissionError):  # some network drives keep no modes
            shutil.copystat(source, temporary)
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            target.touch(exist_ok=False)  # claims the name
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(target, sha256):
    return target.parent / f".retrain-sort-{sha256[:16]}.part"


def _clear_temporary(target, sha256):
    with suppress(OSError):
        _temporary(target, sha256).unlink()


def _sha256(path):
    if not S_ISREG(os.stat(path).st_mode):
        raise OSError(None, "it is not a regular file")
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holds(path, sha256):
    try:
        return _sha256(path) == sha256
    except OSError:
        return False


def _is_same(one, other):
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _is_spare(path, other, entry):
    """Whether the entry's content stays at `other` when `path` is removed."""
    if not _is_same(path, other):
        return holds(other, entry.sha256)
    # Since the sorting one folder may have taken the other's place, by a link or a new name: then this is the only one.
    return os.stat(path).st_nlink > 1 and os.path.realpath(path) != os.path.realpath(other)


def sync(path):
    """Bring a file, or a folder's names, to the disk."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network drives cannot do it for folders
                raise
        finally:
            os.close(handle)


@contextmanager
def _locked(folder, tool):
    """Keep a second process out.  The lock ends with this process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network drives know no locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RetrainError(f"another retrain {tool} is at work in {folder}.", "Wait for its end.") from None
        yield
    finally:
        os.close(handle)


def folder_of_sources(folder):
    """The deepest folder that holds every place where the files came from, for they go back there; None without any."""
    sources = [str(Path(entry.source).parent) for entry in Journal(folder).entries.values()]
    return os.path.commonpath(sources) if sources else None


if __name__ == "__main__":  # asked by the shell wrappers, which have to mount that folder for an undo
    sys.stdout.buffer.write(os.fsencode(folder_of_sources(sys.argv[1]) or ""))
