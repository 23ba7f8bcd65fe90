"""The album: the class folders that a model is taught from, changed in steps that can be undone.

Nothing is deleted or overwritten.  What is taken out goes into the hidden folder `.retrain-studio` of the data, where a
journal of JSON lines notes each step before it is taken: {"step", "text", "moves": [[FROM, TO, SHA256], …]}, then
{"done": STEP}, {"undone": STEP} or {"kept": STEP}.  Paths are relative to the data; a folder has no SHA256, what is new
no FROM.
"""

import hashlib
import json
import os
import threading
import unicodedata
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from retrain.dataset import class_folders, find_parts, walk
from retrain.errors import RetrainError
from retrain.images import ImageError, decode
from retrain.recipes.journal import holds, put, sync
from retrain.recipes.locking import locked
from retrain.recipes.names import NAME_BYTES, cut, folder_names, safe_name

HOME, JOURNAL, LOCK = ".retrain-studio", "steps.jsonl", "lock"
ID_LETTERS = 20


class MissingError(RetrainError):
    """There is no such class or picture (any more)."""

    def __init__(self):
        super().__init__("it is not there any more.", "Look at the classes again.")


class TakenError(RetrainError):
    """A name is taken, or there is nothing to undo."""


@dataclass(frozen=True)
class Class:
    """A class folder."""

    id: str
    name: str
    pictures: list[Path]


@dataclass
class Step:
    """One change: files and folders that were moved; from nowhere, where they are new."""

    number: int
    text: str
    moves: list[tuple[str | None, str, str | None]]  # from, to, sha256
    state: str = "begun"  # | done | undone | kept: it cannot be undone


class Album:
    """The data folder as one sees and changes it.  Classes and pictures go by ids, which tell nothing of paths."""

    def __init__(self, folder):
        """folder: made where it is missing.  Raises RetrainError where it is split into parts, or cannot be changed."""
        self.folder = Path(os.path.realpath(folder))
        if self.folder.is_dir() and find_parts(self.folder):
            raise RetrainError(f"{folder} is split into train/ and test/.", "Name a folder with one folder a class.")
        self._home = self.folder / HOME
        self._steps = _read_steps(self._home / JOURNAL)
        self._paths: dict[str, Path] = {}
        self._changing = threading.RLock()

    @contextmanager
    def opened(self):
        """Within this no other server changes the album.  What a kill has left half done is taken back first."""
        try:
            self._home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RetrainError(
                f"{self.folder} cannot be changed: {error.strerror}.", "Check its permissions."
            ) from error
        with locked(self._home / LOCK, "serve", self.folder):
            for step in self._steps:
                if step.state == "begun":
                    self._take_back(step)
            yield self

    def classes(self):
        """The classes in order of name, each with its pictures, but for links that lead out of the data."""
        found = []
        for name in class_folders(self.folder):
            paths = [path for path in walk(self.folder / name) if self._is_inside(path)]
            found.append(Class(self.id_of(self.folder / name), name, paths))
        return found

    def id_of(self, path):
        """Id of a class folder or picture."""
        relative = os.fsencode(path.relative_to(self.folder))
        number = hashlib.sha256(relative).hexdigest()[:ID_LETTERS]
        self._paths[number] = path
        return number

    def path_of(self, number):
        """Path of an id.  Raises MissingError."""
        if number not in self._paths:
            for each in self.classes():
                list(map(self.id_of, each.pictures))
        path = self._paths.get(number)
        if path is None or not path.exists() or not self._is_inside(path):
            raise MissingError
        return path

    def add_class(self, name):
        """Make a class.  Returns its id.  Raises TakenError, or RetrainError where that is no name."""
        with self._changing:
            folder = self._free_class(name)
            self._do(f"{folder.name} added", [(None, folder, None)])
            return self.id_of(folder)

    def rename_class(self, number, name):
        """Returns its new id.  Raises as `add_class` does."""
        with self._changing:
            folder = self.path_of(number)
            if name == folder.name:
                return number
            target = self._free_class(name, besides=folder.name)
            self._do(f"{folder.name} renamed to {target.name}", [(folder, target, None)])
            return self.id_of(target)

    def remove_class(self, number):
        """Take a class out.  Returns how many pictures it had."""
        with self._changing:
            folder = self.path_of(number)
            pictures = sum(1 for _ in walk(folder))
            self._do(f"{folder.name} taken out", [(folder, self._new_place() / folder.name, None)])
            return pictures

    def add_pictures(self, number, files):
        """Add encoded pictures [(name, bytes)] to a class.

        Returns the paths of those added, [(name, reason)] of those that are no pictures, and the names of those that
        are there already.
        """
        refused: list[tuple[str, str]] = []
        new: dict[str, tuple[str, bytes]] = {}  # by sha256
        for name, data in files:
            try:
                decode(data)
                new.setdefault(hashlib.sha256(data).hexdigest(), (name, data))
            except ImageError as error:
                refused.append((name, str(error)))
        with self._changing:
            folder = self.path_of(number)
            there = {path: path.stat().st_size for path in walk(folder)}
            known = {
                digest
                for digest, (_, data) in new.items()
                if any(size == len(data) and holds(path, digest) for path, size in there.items())
            }
            names = _Free(folder)
            moves = [(None, names.give(name), digest) for digest, (name, _) in new.items() if digest not in known]
            if moves:
                contents = {target: new[digest][1] for _, target, digest in moves}
                self._do(f"{_pictures(len(moves))} added to {folder.name}", moves, contents)
        return [to for _, to, _ in moves], refused, [new[digest][0] for digest in known]

    def move_pictures(self, numbers, to):
        """Put pictures into a class, or out of the album where that is None.  Returns how many were moved."""
        with self._changing:
            folder = None if to is None else self.path_of(to)
            sources = [path for path in map(self.path_of, dict.fromkeys(numbers)) if path.parent != folder]
            if not sources:
                return 0
            names = _Free(folder or self._new_place())
            moves = [(path, names.give(path.name), _digest(path)) for path in sources]
            self._do(f"{_pictures(len(moves))} {f'moved to {folder.name}' if folder else 'taken out'}", moves)
            return len(moves)

    @property
    def steps(self):
        """How many steps were ever taken."""
        return len(self._steps)

    @property
    def last(self):
        """The Step that `undo` would undo; None where there is none."""
        return next((step for step in reversed(self._steps) if step.state == "done"), None)

    def undo(self):
        """Take the last step back: what is as it was left goes where it was.  Returns the Step.

        What was added goes out of the album.  Raises TakenError where there is no step, or where something has changed
        since: that step is then left as it is, and the one before it is next.
        """
        with self._changing:
            step = self.last
            if step is None:
                raise TakenError("there is nothing to undo.", "")
            for source, target, digest in step.moves:
                if not self._is_as_left(target, digest) or (source and os.path.lexists(self.folder / source)):
                    self._mark(step, "kept")
                    raise TakenError(f"{target} has been changed since, and stays.", "Move it by hand.")
            self._take_back(step)
            return step

    def _do(self, text, moves, contents=None):
        """Take a step.  moves: (path or None, path, sha256 or None); contents: {path: bytes} of what is new."""
        rows = [(source and self._relative(source), self._relative(target), digest) for source, target, digest in moves]
        step = Step(len(self._steps), text, rows)
        try:
            self._write({"step": step.number, "text": text, "moves": rows})
            self._steps.append(step)
            for source, target, digest in moves:
                target.parent.mkdir(parents=True, exist_ok=True)
                if source is not None:
                    _move(source, target, digest)
                elif digest is None:
                    target.mkdir()
                else:
                    _write_new(target, contents[target])
        except OSError as error:
            if step in self._steps:
                self._take_back(step)
            raise RetrainError(
                f"{self.folder} cannot be changed: {error.strerror}.", "Make room, or check its permissions."
            ) from error
        self._mark(step, "done")

    def _take_back(self, step):
        """Put what a step has moved where it was; what it has added goes out."""
        place = None
        for source, target, digest in reversed(step.moves):
            if not self._is_as_left(target, digest):
                continue  # it never came, or is somebody else's now
            if source is None:
                place = place or self._new_place()
                home = _Free(place).give(Path(target).name)
            else:
                home = self.folder / source
            with suppress(OSError):
                home.parent.mkdir(parents=True, exist_ok=True)
                _move(self.folder / target, home, digest)
        self._mark(step, "undone")

    def _mark(self, step, state):
        self._write({state: step.number})
        step.state = state

    def _write(self, line):
        self._home.mkdir(exist_ok=True)  # somebody may have tidied up
        with open(self._home / JOURNAL, "ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _new_place(self):
        """Folder, not made yet, for what is taken out in a step."""
        for number in count(len(self._steps)):
            place = self._home / str(number)
            if not place.exists():
                return place
        raise AssertionError

    def _free_class(self, name, besides=None):
        """Path of a new class.  Raises TakenError, or RetrainError where that is no name."""
        name = unicodedata.normalize("NFC", name).strip()
        if not safe_name(name):
            raise RetrainError("that is no name.", "Give one with a letter or digit.")
        ((_, folder),) = folder_names([name]).items()
        for other in self.folder.iterdir():
            if other.name != besides and _folded(other.name) == _folded(folder):
                raise TakenError(f"there is a {other.name} already.", "Choose another name.")
        return self.folder / folder

    def _is_inside(self, path):
        return Path(os.path.realpath(path)).is_relative_to(self.folder)

    def _is_as_left(self, target, digest):
        path = self.folder / target
        return path.is_dir() if digest is None else not path.is_symlink() and holds(path, digest)

    def _relative(self, path):
        return str(path.relative_to(self.folder))


class _Free:
    """Names that are free in a folder, also beside one another."""

    def __init__(self, folder):
        self._folder, self._given = folder, set()

    def give(self, name):
        """Path there: that name, or with a number."""
        name = safe_name(Path(name.replace("\\", "/")).name).lstrip(".") or "picture"
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - of text
        for number in count(1):
            tail = suffix if number == 1 else f"-{number}{suffix}"
            path = self._folder / (cut(stem, NAME_BYTES - len(os.fsencode(tail))) + tail)
            if _folded(path.name) not in self._given and not os.path.lexists(path):
                self._given.add(_folded(path.name))
                return path
        raise AssertionError


def _read_steps(path):
    """Raises RetrainError where the journal is damaged; a last line that a kill has torn does not count."""
    steps: list[Step] = []
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return steps
    try:
        for line in map(json.loads, lines):
            if "step" in line:
                moves = [(source, target, digest) for source, target, digest in line["moves"]]
                if not all(map(_is_below, [path for move in moves for path in move[:2] if path is not None])):
                    raise ValueError("a path leads elsewhere")
                steps.append(Step(line["step"], line["text"], moves))
            for state in {"done", "undone", "kept"} & line.keys():
                steps[line[state]].state = state
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise RetrainError(
            f"{path} is damaged: {error}.", "Move it elsewhere; what was before can then not be undone."
        ) from error
    return steps


def _is_below(path):
    return isinstance(path, str) and not Path(path).is_absolute() and ".." not in Path(path).parts


def _move(source, target, digest):
    """Never overwrites."""
    if digest is None:
        if os.path.lexists(target):
            raise FileExistsError(None, f"{target.name} is there already")
        source.rename(target)
        return
    put(source, target, "move", digest)
    if not source.samefile(target):
        sync(target)
    sync(target.parent)
    source.unlink()


def _write_new(target, data):
    with open(target, "xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _digest(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folded(name):
    return unicodedata.normalize("NFC", name).casefold()


def _pictures(number):
    return "1 picture" if number == 1 else f"{number} pictures"
