"""Folders of pictures as a labelled data set, and its split into parts that never mix.

The first level of folders names the classes, as spelled; whatever lies deeper belongs to that class.  Hidden files,
folders that retrain itself wrote and, on the first level, names starting with `_` are left out.  Pictures in
`_unknown/` are of no class: they tell how well a model knows what it does not know.
"""

import logging
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from hashlib import sha1, sha256
from pathlib import Path
from stat import S_ISDIR

import numpy as np

from retrain.errors import RetrainError

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
PART_NAMES = {"train": TRAINING, "training": TRAINING, "test": TESTING, "testing": TESTING}
PART_NAMES |= {"val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION}
UNKNOWN = "_unknown"
FEW_IMAGES = 20  # a class with fewer learns badly
MIN_TESTED = 3  # groups; a class with fewer is trained and not tested
NOHASH = "(.*?)_nohash_"  # names of variants of one picture, as the original retrain.py had them
CRAWL_MANIFEST = "manifest.jsonl"  # what a crawl writes beside the folders of its pictures
LEGACY_IMAGES = 2**27 - 1  # a class, at most, as the original retrain.py had it
# What marks a folder as our own work rather than somebody's pictures.
OWN_MARKS = ("model.json", "bottlenecks.sqlite", ".retrain-sort.jsonl", "retrain-clean.jsonl", ".retrain-clean")

log = logging.getLogger("retrain")


@dataclass
class Dataset:
    """Files and their class indices.

    parts: a part each where the folder itself is split, else None.  unknown: files of no class, never learned.
    targets: bool (n, C) where a file may be of several classes, and `labels` is empty; else None.
    refused: what a list of pictures names and is none, with the reason.
    """

    classes: list[str]
    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    parts: list[str] | None = None
    unknown: list[Path] = field(default_factory=list)
    targets: np.ndarray | None = None
    refused: list[tuple[Path, RetrainError]] = field(default_factory=list)

    def __len__(self):
        return len(self.paths)

    def take(self, rows):
        """The data set of these rows alone, with the same classes."""
        return replace(
            self,
            paths=[self.paths[row] for row in rows],
            labels=[self.labels[row] for row in rows] if self.targets is None else [],
            parts=self.parts and [self.parts[row] for row in rows],
            targets=None if self.targets is None else self.targets[rows],
        )

    def take_classes(self, numbers):
        """The data set with these classes alone, in order; no file may be lost by it."""
        names = [self.classes[number] for number in numbers]
        if self.targets is not None:
            return replace(self, classes=names, targets=self.targets[:, numbers])
        return replace(self, classes=names, labels=np.searchsorted(numbers, self.labels).tolist())

    def counts(self):
        """Files of each class, int (C,)."""
        if self.targets is not None:
            return self.targets.sum(axis=0)
        return np.bincount(self.labels, minlength=len(self.classes))

    def names_of(self, row):
        """Names of the classes of a file."""
        numbers = [self.labels[row]] if self.targets is None else np.flatnonzero(self.targets[row])
        return [self.classes[number] for number in numbers]


def walk(folder, tell=True):
    """Every file below a folder in sorted order, links followed, no folder twice.

    Leaves out hidden names and our own output folders.  tell: say so.
    """
    hidden, seen = 0, set[tuple[int, int]]()
    waiting = _children(Path(folder), seen, tell)
    while waiting:
        path = waiting.pop()
        if path.name.startswith("."):
            hidden += 1
        elif not _is_folder(path):
            yield path
        elif not is_own(path):
            waiting += _children(path, seen, tell)
        elif tell:
            log.warning("%s was written by retrain: left out.", path)
    if hidden and tell:
        log.info("%d hidden file(s) or folder(s) below %s left out.", hidden, folder)


def _children(folder, seen, tell):
    """Paths in a folder, in reverse order; none where the folder was seen before or cannot be read."""
    try:
        status, names = folder.stat(), os.listdir(folder)
    except OSError as error:
        if tell:
            log.warning("%s cannot be read (%s): left out.", folder, error.strerror)
        return []
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    return [folder / name for name in sorted(names, reverse=True)]


def is_own(folder):
    """Whether retrain wrote this folder: a model, a store of embeddings, a sorted folder, plans or quarantine."""
    return any(_status(Path(folder) / mark) for mark in OWN_MARKS)


def _is_folder(path):
    status = _status(path)
    return status is not None and S_ISDIR(status.st_mode)


def _status(path):
    # Not by Path.exists and the like: those raise where a folder may not be entered.
    try:
        return path.stat()
    except OSError:
        return None


def require_folder(folder):
    """Path of an existing, readable folder.  Raises RetrainError."""
    folder = Path(folder)
    try:
        os.listdir(folder)
    except FileNotFoundError:
        raise RetrainError(f"there is no folder {folder}.", "Check the path.") from None
    except NotADirectoryError:
        raise RetrainError(f"{folder} is a file, not a folder.", "Give a folder with one sub-folder a class.") from None
    except OSError as error:
        raise RetrainError(f"{folder} cannot be read: {error.strerror}.", "Check its permissions.") from error
    return folder


def require_new_folder(folder):
    """Raise RetrainError where a folder holds something already, or is none."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RetrainError(f"{folder} is there already and not an empty folder.", "Name a new folder.")


def find_dataset(folder, only=()):
    """Dataset of a folder holding one folder a class, or `train/` and `test/` with those inside.

    only: names of the classes wanted.  Raises RetrainError where there is no class, or one of `only` is missing.
    """
    folder = require_folder(folder)
    parts = find_parts(folder)
    if parts:
        log.info("%s holds %s/: used as they are.", folder, "/ and ".join(path.name for path in parts))
    files = [
        (name, path, part)
        for parent, part in (parts or {folder: None}).items()
        for name in _class_folders(parent, only)
        for path in _class_files(parent / name)
    ]
    classes = sorted({name for name, _, _ in files})
    missing = sorted(set(only) - set(classes))
    if missing:
        there = sorted({name for parent in parts or [folder] for name in _folders_in(parent)})
        raise RetrainError(f"{folder} holds no class {', '.join(missing)}.", f"There is: {', '.join(there) or 'none'}.")
    numbers = {name: number for number, name in enumerate(classes)}
    return Dataset(
        classes,
        [path for _, path, _ in files],
        [numbers[name] for name, _, _ in files],
        [part for _, _, part in files] if parts else None,
        [path for parent in (folder, *parts) if _is_folder(parent / UNKNOWN) for path in walk(parent / UNKNOWN)],
    )


def class_folders(folder):
    """Names of the class folders in a folder; none where it is not there."""
    folder = Path(folder)
    return [name for name in _folders_in(folder) if not is_own(folder / name)] if _is_folder(folder) else []


def find_parts(folder):
    """{folder: part} where a folder is split into train/ and test/ (and perhaps validation/), else {}."""
    parts = {folder / name: part for name, part in PART_NAMES.items() if _is_folder(folder / name)}
    # Pictures of trains lie in a folder named train, too: the parts of one data set share classes.
    inside = {path: set(_folders_in(path)) for path in parts}
    trained = set().union(*(inside[path] for path, part in parts.items() if part == TRAINING))
    parts = {path: part for path, part in parts.items() if inside[path] & trained}
    return parts if TESTING in parts.values() else {}


def _folders_in(folder):
    names = sorted(os.listdir(require_folder(folder)))
    return [name for name in names if not name.startswith((".", "_")) and _is_folder(folder / name)]


def _class_folders(folder, only):
    for name in _folders_in(folder):
        if only and name not in only:
            continue
        if is_own(folder / name):
            log.warning("%s was written by retrain: left out.", folder / name)
        else:
            yield name


def _class_files(folder):
    paths = list(walk(folder))
    if not paths:
        log.warning("class %s holds no files: left out.", folder.name)
    return paths


def require_classes(dataset, folder):
    """Raise RetrainError unless there are two classes or more, or pictures without the only one."""
    if not dataset.classes:
        raise RetrainError(
            f"{folder} holds no pictures in class folders.",
            "Make one folder a class, such as photos/cat and photos/dog.",
        )
    if len(dataset.classes) == 1 and dataset.counts()[0] == len(dataset):
        raise RetrainError(
            f"{folder} holds only one class, {dataset.classes[0]}.",
            "Add a folder for what it is to be told apart from.",
        )


def warn_of_small_classes(dataset):
    """Say which classes have too few pictures to be learned or measured well."""
    for name, count in zip(dataset.classes, dataset.counts(), strict=True):
        if count < MIN_TESTED:
            log.warning("class %s has %d picture(s): trained, not tested.", name, count)
        elif count < FEW_IMAGES:
            log.warning("class %s has only %d pictures; %d or more are better.", name, count, FEW_IMAGES)


def related_by_name(paths, patterns):
    """Rows of files in one folder whose names match a pattern with the same first group: (first, second).

    patterns: regular expressions.  Raises RetrainError on one that is none, or that has no group.
    """
    seen: dict[tuple[str, Path, str], int] = {}
    pairs = []
    for pattern in patterns:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise RetrainError(f"{pattern!r} is no regular expression: {error}.", r"Such as '(IMG_\d+)'.") from error
        if not expression.groups:
            raise RetrainError(f"{pattern!r} has no group.", r"Put what is the same in brackets: '(IMG_\d+)'.")
        for row, path in enumerate(paths):
            if (match := expression.search(path.name)) and match[1]:
                pairs.append((seen.setdefault((pattern, path.parent, match[1]), row), row))
    return tuple(zip(*pairs, strict=True)) or ((), ())


def labels_of_groups(labels, hashes):
    """{hash of a group: set of the labels that its rows have}, in the order of first appearance."""
    found = defaultdict(set)
    for label, digest in zip(labels, hashes, strict=True):
        found[digest].add(label)
    return found


def split(labels, hashes, *, test_share=0.1, validation_share=0.1):
    """Part of each picture by the hash of its content, so that moving or renaming data moves nothing between parts.

    labels: int (n,).  hashes: bytes (sha256) of each picture's group; equal ones stay together.
    No class of three or more groups is left without a tested and, then, a validated one.  A group in two classes at
    once is trained: it can measure nothing.  Returns array of str (n,).
    """
    place = {digest: int.from_bytes(digest[:8], "big") / 2**64 for digest in hashes}
    parts = {
        digest: TESTING if at < test_share else VALIDATION if at < test_share + validation_share else TRAINING
        for digest, at in place.items()
    }
    owners, groups = labels_of_groups(labels, hashes), defaultdict(set)
    for digest, found in owners.items():
        if len(found) > 1:
            parts[digest] = TRAINING
        else:
            groups[min(found)].add(digest)
    doubtful = sum(len(found) > 1 for found in owners.values())
    if doubtful:
        log.warning("%d picture(s) lie in more than one class: trained, not tested.", doubtful)
    wanted = [part for part, share in [(TESTING, test_share), (VALIDATION, validation_share)] if share > 0]
    for members in groups.values():
        if len(members) < MIN_TESTED:
            parts.update(dict.fromkeys(members, TRAINING))
            continue
        for part in [*wanted, TRAINING]:
            if not any(parts[digest] == part for digest in members):
                _fill(part, members, parts, place)
    return np.array([parts[digest] for digest in hashes])


def _fill(part, members, parts, place):
    """Give a class's empty part the member next to it that another part can spare."""
    present = [parts[digest] for digest in members]
    spare = [digest for digest in members if present.count(parts[digest]) > 1]
    if spare:
        pick = max if part == TRAINING else min
        parts[pick(spare, key=lambda digest: place[digest])] = part


def legacy_part(path, test_share=0.1, validation_share=0.1):
    """Part of a picture by the hash of its path as typed, exactly as the original retrain.py had it.

    Moving or renaming data moves pictures to other parts, and copies of one picture may lie in two.
    """
    digest = sha1(os.fsencode(re.sub("_nohash_.*$", "", path)), usedforsecurity=False).hexdigest()
    percentage = (int(digest, 16) % (LEGACY_IMAGES + 1)) * (100 / LEGACY_IMAGES)
    if percentage < 100 * validation_share:
        return VALIDATION
    return TESTING if percentage < 100 * validation_share + 100 * test_share else TRAINING


def choose(labels, digests, groups, limit):
    """Rows of at most `limit` pictures a class, in order: different pictures before copies, which ones by hash.

    Pictures that come in displace few.  labels: int (n,).  digests, groups: bytes of each picture and of its group.
    """
    copies, taken, order = Counter[tuple[int, bytes]](), Counter[int](), []
    for row in sorted(range(len(labels)), key=digests.__getitem__):
        key = labels[row], groups[row]
        # Not the group's own hash, which tells its part: a class would be all test.
        order.append((copies[key], sha256(b"choose " + groups[row]).digest(), row))
        copies[key] += 1
    chosen = []
    for *_, row in sorted(order):
        if taken[labels[row]] < limit:
            taken[labels[row]] += 1
            chosen.append(row)
    return sorted(chosen)


def legacy_label(name):
    """The label as the original retrain.py wrote it: lower case, all but a-z and 0-9 a blank."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower())


def legacy_labels(names):
    """The labels in the old form, all numbered where two would be the same or one would be blank."""
    labels = [legacy_label(name) for name in names]
    if len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        labels = [f"{label.strip()} {row}".strip() for row, label in enumerate(labels)]
    return labels
