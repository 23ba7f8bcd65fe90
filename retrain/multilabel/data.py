"""Pictures with several labels: where these stand, which pictures are one, and a split that leaves no label out."""

import csv
import logging
import os
from hashlib import sha256
from pathlib import Path

import numpy as np

from retrain.dataset import (
    MIN_TESTED,
    PART_NAMES,
    TESTING,
    TRAINING,
    UNKNOWN,
    VALIDATION,
    Dataset,
    find_dataset,
    require_folder,
    walk,
)
from retrain.errors import RetrainError

LABELS_FILE = "labels.csv"
COLUMNS = "path", "labels"
SEPARATORS = ";|"  # between the labels of a row; Kaggle's sets have the second

log = logging.getLogger("retrain")


def labels_files(folder):
    """{labels.csv: part} of a folder: its own, of part "", else those in its `train/` and `test/`; {} without any."""
    own = Path(folder, LABELS_FILE)
    if _has_columns(own):
        return {own: ""}
    parts = {Path(folder, name, LABELS_FILE): part for name, part in PART_NAMES.items()}
    return {file: part for file, part in parts.items() if _has_columns(file)}


def find_labelled(folder, only=(), multi_label=False):
    """Dataset of a folder: of its labels.csv or, without one, of its class folders, as `find_dataset` has it.

    It has `targets` where a labels.csv is there or multi_label says that a picture may lie in several class folders.
    only: names of the labels wanted; pictures that have others alone are left out.  A row that names no picture of the
    folder is refused.  Raises RetrainError.
    """
    folder = require_folder(folder)
    if files := labels_files(folder):
        return _find_listed(folder, files, only)
    if (folder / LABELS_FILE).is_file():
        log.warning("%s does not begin with %s: passed over.", folder / LABELS_FILE, ",".join(COLUMNS))
    dataset = find_dataset(folder, only)
    if multi_label:
        dataset.targets, dataset.labels = np.eye(len(dataset.classes), dtype=bool)[dataset.labels], []
    return dataset


def _has_columns(file):
    try:
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            return set(COLUMNS) <= set(next(csv.reader(stream), ()))
    except (OSError, csv.Error):
        return False


def _find_listed(folder, files, only):
    labels, parts, refused = dict[Path, set[str]](), dict[Path, str](), []
    for file, part in files.items():
        log.info("%s tells the labels.", file)
        for path, own, error in _read_rows(file):
            if error:
                refused.append((path, RetrainError(f"bad row of {LABELS_FILE}: {error}")))
            else:
                labels.setdefault(path, set()).update(own)
                parts[path] = part
    classes = sorted(set().union(*labels.values()))
    missing = sorted(set(only) - set(classes))
    if missing or not classes:
        raise RetrainError(
            f"{folder} holds no picture with a label {', '.join(missing)}".rstrip() + ".",
            f"There is: {', '.join(classes)}." if classes else _first(refused),
        )
    paths = [path for path, own in labels.items() if not only or not own or own & set(only)]
    classes = sorted(set(only) or classes)
    strangers = [path.parent / UNKNOWN for path in files if (path.parent / UNKNOWN).is_dir()]
    return Dataset(
        classes,
        paths,
        parts=[parts[path] for path in paths] if any(files.values()) else None,
        unknown=[path for stranger in strangers for path in walk(stranger)],
        targets=np.array([[name in labels[path] for name in classes] for path in paths], bool),
        refused=refused,
    )


def _first(refused):
    example = "Its rows are such as party.jpg,anna;ben."
    return f"{refused[0][0]}: {refused[0][1]}. {example}" if refused else example


def _read_rows(file):
    """Yield (path, its labels, what is wrong with the row or None) of each row.  Raises RetrainError."""
    try:
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            rows = csv.DictReader(stream)
            for row in rows:
                path = Path(os.path.normpath(file.parent / (row["path"] or "")))
                words = (row["labels"] or "").replace(SEPARATORS[1], SEPARATORS[0]).split(SEPARATORS[0])
                error = _wrong(row, path, file.parent)
                yield path, set(filter(None, map(str.strip, words))), error and f"{error}, line {rows.line_num}"
    except (OSError, csv.Error) as error:
        raise RetrainError(f"{file} cannot be read: {error}.", "Check it.") from error


def _wrong(row, path, folder):
    """What is wrong with a row, or None."""
    if not row["path"]:
        return "no path"
    if row["labels"] is None or None in row:
        return "not as many fields as the first line; between labels stands ;"
    if "\n" in row["labels"]:
        return "a quotation mark that is not closed"
    if Path(row["path"]).is_absolute() or not path.is_relative_to(os.path.normpath(folder)):
        return "a path out of the folder"
    return None if os.path.isfile(path) else "no such file"  # noqa: PTH113 - Path.is_file raises on odd names


def merge_same(dataset, digests):
    """Rows to keep, and their targets: files of the same bytes are one picture, with the labels of all.

    What is both learned and tested stays twice.
    """
    first: dict[tuple, int] = {}
    parts = dataset.parts or [None] * len(dataset)
    owner = [first.setdefault(key, row) for row, key in enumerate(zip(digests, parts, strict=True))]
    targets = dataset.targets.copy()
    np.logical_or.at(targets, owner, dataset.targets)
    rows = list(first.values())
    return rows, targets[rows]


def split(targets, groups, *, test_share=0.1, validation_share=0.1):
    """Part of each picture by the hash of its content, as `retrain.dataset.split` has it, for several labels each.

    targets: bool (n, C).  groups: bytes of each picture's group; equal ones stay together.  No label of three or more
    groups is left without a tested and, then, a validated one.  Returns array of str (n,).
    """
    names, numbers, owned = _labels_of_groups(targets, groups)
    place = np.array([int.from_bytes(name[:8], "big") / 2**64 for name in names])
    bounds = [test_share, test_share + validation_share]
    parts = np.array([TESTING, VALIDATION, TRAINING])[np.searchsorted(bounds, place, "right")]
    counts = owned.sum(axis=0)
    kept = owned[:, counts < MIN_TESTED].any(axis=1)
    parts[kept] = TRAINING
    wanted = [part for part, share in [(TESTING, test_share), (VALIDATION, validation_share)] if share > 0]
    for label in np.argsort(counts, kind="stable"):  # the rare have the least choice
        members = np.flatnonzero(owned[:, label])
        if len(members) >= MIN_TESTED:
            for part in [*wanted, TRAINING]:
                if part not in parts[members]:
                    _fill(part, members[~kept[members]], parts, place, owned)
    return parts[numbers]


def _fill(part, members, parts, place, owned):
    """Give a label's empty part the member next to it that no label of another part misses."""
    counts = {part: owned[parts == part].sum(axis=0) for part in set(parts[members])}
    spare = [row for row in members if (counts[parts[row]][owned[row]] > 1).all()]
    if spare:
        pick = max if part == TRAINING else min
        parts[pick(spare, key=lambda row: place[row])] = part


def deal_folds(targets, groups, seed=0):
    """Fold of each row, every label spread evenly, equal groups together; -1 for rows that every fold learns from.

    Those have a label of which there is no other group.  Three folds above 2,000 rows, else five.  Returns int (n,).
    Iterative stratification: the rarest label is dealt first, each group to the fold that lacks it most.  Sechidis et
    al. 2011, doi:10.1007/978-3-642-23808-6_10.
    """
    names, numbers, owned = _labels_of_groups(targets, groups)
    count = 5 if len(targets) <= 2_000 else 3
    alone = owned[:, owned.sum(axis=0) == 1].any(axis=1)
    order = sorted(np.flatnonzero(~alone), key=lambda row: sha256(b"%d " % seed + names[row]).digest())
    dealt, ranked = np.full(len(names), -1), owned[order]
    lacking = np.tile(ranked.sum(axis=0) / count, (count, 1))
    room, left, folds = np.full(count, len(order) / count), ranked.sum(axis=0), np.full(len(order), -1)

    def deal(row, fold):
        folds[row] = fold
        room[fold] -= 1
        lacking[fold, ranked[row]] -= 1
        left[ranked[row]] -= 1

    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        for row in np.flatnonzero(ranked[:, label] & (folds < 0)):
            deal(row, max(range(count), key=lambda fold: (lacking[fold, label], room[fold])))
    for row in np.flatnonzero(folds < 0):
        deal(row, int(np.argmax(room)))
    dealt[order] = folds
    used = np.unique(folds)
    return np.where(dealt >= 0, np.searchsorted(used, dealt), -1)[numbers]


def _labels_of_groups(targets, groups):
    """Names of the groups, the number of each row's, and the labels that their rows have: bool (groups, C)."""
    numbers: dict[bytes, int] = {}
    of_row = np.array([numbers.setdefault(group, len(numbers)) for group in groups], int)
    owned = np.zeros((len(numbers), targets.shape[1]), bool)
    np.logical_or.at(owned, of_row, targets)
    return list(numbers), of_row, owned
