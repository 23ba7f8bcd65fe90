"""Clean: find what harms a picture set, tell why, and on request put it into quarantine."""

import json
import logging
import os
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones import load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.checks import CHECKS, QUARANTINE, REVIEW, load_check, require_checks
from retrain.checks.evidence import MEASURES, Evidence
from retrain.dataset import TESTING, Dataset, find_dataset, require_folder, walk
from retrain.errors import RetrainError
from retrain.head import normalize, require_scikit_learn
from retrain.multilabel.data import labels_files
from retrain.options import QUALITIES, CleanOptions, TrainOptions, tf_files
from retrain.progress import track
from retrain.recipes.journal import BATCH, HINTS, NAMES, Journal, plain_errors
from retrain.recipes.sidecars import group
from retrain.report import write_suspects

MARK = ".retrain-clean"  # in a folder of plans, which is no data

log = logging.getLogger("retrain")


def clean(data, options=CleanOptions()):  # noqa: B008 - frozen
    """Look for unfit pictures below a folder: one folder a class, `train/` and `test/` of these, or pictures alone.

    Returns {"findings": [{"check", "paths", "score", "reason", "action", "keep"}], "counts": {check: findings}, "plan",
    "quarantine", "moved", "left": [{"path", "reason"}]}, the worst first within each check.  Where a finding's action
    is "quarantine", all its paths but "keep" are moved, with their sidecars, if the options say `apply`.  The plan is
    kept in `tf_files/clean/<time>/plan.json`.  Raises RetrainError.
    """
    require_checks(options.checks)
    require_scikit_learn()
    data = Path(os.path.realpath(require_folder(data)))
    dataset, sidecars = _find_files(data, options.only)
    names = _fitting(options.checks or CHECKS, dataset, data)
    evidence = _gather(dataset, names)
    findings = [finding for name in names for finding in _find(name, evidence, options)]
    counts = {name: sum(finding["check"] == name for finding in findings) for name in names}
    folder = _new_folder(tf_files() / "clean")
    plan = {"findings": findings, "counts": counts}
    _write_plan(plan, folder / "plan.json")
    if options.html:
        write_suspects(plan, data, options.html)
    result: dict[str, Any] = plan | {"plan": str(folder / "plan.json"), "quarantine": None, "moved": 0, "left": []}
    if options.apply:
        result |= _apply(findings, sidecars, data, Path(os.path.realpath(tf_files())) / "quarantine" / folder.name)
    return result


def undo_clean(data):
    """Put back all that was moved to quarantine from below a folder, the latest first.

    A file goes back only while it is as it was moved, and nothing that stands at its old place is overwritten.
    Returns {"restored": files, "left": [{"path", "reason"}]}.  Raises RetrainError.
    """
    data = Path(os.path.realpath(data))
    folders = _quarantines(data)
    if not folders:
        raise RetrainError(f"nothing from {data} is in quarantine.", f"Look into {tf_files() / 'quarantine'}.")
    restored, left = 0, dict[str, str]()
    for folder in reversed(folders):
        with plain_errors(folder), Journal.open(folder, "clean") as journal:
            number, reasons = journal.undo()
        restored, left = restored + number, left | reasons
    return {"restored": restored, "left": _rows(left)}


def _find_files(data, only):
    """Dataset of a folder's pictures, and {picture: its sidecars}."""
    if labels_files(data):
        raise RetrainError(
            f"the pictures of {data} have several labels each, of which clean knows nothing.",
            "Name a folder below it that holds pictures alone.",
        )
    dataset = find_dataset(data, only)
    if not dataset.classes:
        paths = list(walk(data))
        if not paths:
            raise RetrainError(f"{data} holds no files.", "Name a folder with pictures.")
        dataset = Dataset([""], paths, [0] * len(paths))
    # Real paths, because a move must take a file from where it really lies.
    real = {path.parent: Path(os.path.realpath(path.parent)) for path in dataset.paths}
    dataset.paths = [real[path.parent] / path.name for path in dataset.paths]
    sidecars = {members[0]: members[1:] for members in group(dataset.paths)}
    files = {path for path in sidecars if not path.is_symlink()}
    # A link to a picture that is here anyway is no copy of it.
    wanted = files | {path for path in sidecars.keys() - files if Path(os.path.realpath(path)) not in files}
    rows = [row for row, path in enumerate(dataset.paths) if path in wanted]
    parts = dataset.parts and [dataset.parts[row] for row in rows]
    paths, labels = [dataset.paths[row] for row in rows], [dataset.labels[row] for row in rows]
    return Dataset(dataset.classes, paths, labels, parts), sidecars


def _fitting(names, dataset, data):
    """Those of the checks that this folder admits, in the order of their telling."""
    names = [name for name in CHECKS if name in names]
    if len(dataset.classes) > 1:
        return names
    skipped = [name for name in names if CHECKS[name].needs_classes]
    if skipped:
        has = "one class only" if dataset.classes[0] else "no class folders"
        log.info("%s has %s: no check of %s.", data, has, ", ".join(skipped))
    return [name for name in names if name not in skipped]


def _gather(dataset, names):
    embedding = any(CHECKS[name].needs_embeddings for name in names)
    backbones = [load_backbone(QUALITIES[TrainOptions.quality])] if embedding else []
    with Store(tf_files() / "bottlenecks.sqlite") as store:
        embedded = embed_files(dataset.paths, backbones, store, [MEASURES])
    kept = embedded.kept
    parts = np.array(dataset.parts or [""] * len(dataset))
    return Evidence(
        paths=[dataset.paths[row] for row in kept],
        labels=np.array(dataset.labels, int)[kept],
        classes=dataset.classes,
        tested=parts[kept] == TESTING,
        digests=embedded.digests,
        embeddings=normalize(embedded.embeddings, out=embedded.joined) if embedding else None,
        thumbnails=embedded.thumbnails,
        measures=embedded.others[0],
        refused=embedded.skipped,
    )


def _find(name, evidence, options):
    check = CHECKS[name]
    # Who names a check wants it applied.
    action = QUARANTINE if name in options.checks else check.action
    suspects = load_check(name)(evidence) if evidence.paths or name == "unreadable" else []
    return [
        {
            "check": name,
            "paths": [str(path) for path in suspect.paths],
            "score": round(suspect.score, 4),
            "reason": suspect.reason,
            "action": action if suspect.sure else REVIEW,
            "keep": suspect.keep and str(suspect.keep),
        }
        for suspect in sorted(suspects, key=lambda suspect: (-suspect.score, suspect.paths))
    ]


def _new_folder(parent):
    """A new folder named by the time."""
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        (parent / MARK).touch()
        for number in count(1):
            folder = parent / (now if number == 1 else f"{now}-{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise RetrainError(
            f"{parent} cannot be written: {error.strerror}.", "Name another folder in TF_FILES."
        ) from error


def _write_plan(plan, path):
    path.write_text(json.dumps(plan, indent=1), "ascii")


def _apply(findings, sidecars, data, folder):
    wanted: dict[Path, str] = {}
    for finding in findings:
        if finding["action"] == QUARANTINE:
            for path in finding["paths"]:
                if path != finding["keep"]:
                    wanted.setdefault(Path(path), f"{finding['check']}: {finding['reason']}")
    if not wanted:
        return {}
    for earlier in _quarantines(data):
        with plain_errors(earlier), Journal.open(earlier, "clean"):
            pass  # opening finishes what a kill has interrupted
    left = {}
    with plain_errors(folder), Journal.open(folder, "clean") as journal:
        for path, reason in track(wanted.items(), "Moving", len(wanted)):
            try:
                _move([path, *sidecars[path]], reason, data, journal)
            except OSError as error:
                if error.errno in HINTS:
                    raise
                left[str(path)] = error.strerror
            journal.commit(at_least=BATCH)
        journal.commit()
        moved = len(journal.entries)
        if not moved:
            journal.undo()  # leaves no empty folder behind
    return {"quarantine": str(folder) if moved else None, "moved": moved, "left": _rows(left | journal.failed)}


def _move(paths, reason, data, journal):
    if any(path.is_symlink() or not path.is_relative_to(data) for path in paths):
        raise OSError(None, "a symbolic link leads to it, and a move would break that")
    destinations = [path.relative_to(data) for path in paths]
    for folder in [*destinations[0].parents][-2::-1]:
        journal.make_folder(str(folder))
    journal.file(zip(paths, map(str, destinations), strict=True), "move", reason)


def _quarantines(data):
    """Folders in quarantine whose files all came from below `data`, the earliest first."""
    found = []
    for path in sorted(Path(os.path.realpath(tf_files()), "quarantine").glob(f"*/{NAMES['clean']}")):
        entries = Journal(path.parent, "clean").entries.values()
        if all(Path(entry.source).is_relative_to(data) for entry in entries):
            found.append(path.parent)
    return found


def _rows(reasons):
    return [{"path": path, "reason": reason} for path, reason in reasons.items()]
