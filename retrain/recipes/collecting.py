"""Collect: pictures for classes that have none yet, crawled and cleaned.  What is done is noted, and not done again."""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from retrain.checks import CHECKS, QUARANTINE
from retrain.dataset import walk
from retrain.errors import RetrainError
from retrain.options import CleanOptions
from retrain.recipes.cleaning import clean
from retrain.recipes.crawling import OWN, crawl, crawled_files

FEWEST = 10  # pictures a class; fewer teach nothing
SURE = tuple(name for name, check in CHECKS.items() if check.action == QUARANTINE)

log = logging.getLogger("retrain")


def collect(folders, data, options):
    """Have pictures of each class in `data/<folder>`: crawl and clean them where nobody has put any there.

    folders: {what to search for: name of the class and its folder}.  options: CrawlOptions.
    Returns {class: its pictures}, and what a source refused to tell.  Raises RetrainError where a class has too few.
    """
    data, notes = Path(data), _Notes(Path(data) / OWN / "collected.json")
    wanted = {query: folder for query, folder in folders.items() if not _is_users_own(data / folder, data)}
    missing = [query for query, folder in wanted.items() if notes.limit(folder) < options.limit]
    failures = []
    if missing:
        failures = crawl({query: query for query in missing}, data, options)["failures"]
        failed = {row["query"] for row in failures}
        notes.put({wanted[query]: {"limit": options.limit, "clean": False} for query in missing if query not in failed})
    counts = {folder: _count(data / folder) for folder in folders.values()}
    _require_enough(counts, data, failures)
    if not all(map(notes.is_clean, wanted.values())):
        _clean(wanted.values(), data)
        notes.put({folder: {"limit": notes.limit(folder), "clean": True} for folder in wanted.values()})
        counts = {folder: _count(data / folder) for folder in folders.values()}
        _require_enough(counts, data, failures)
    return counts, failures


def _clean(classes, data):
    # Nobody has looked at crawled pictures, so those that look like another class go, too.
    checks = (*SURE, "wrong_label") if len(classes) > 1 else SURE
    result = clean(data, CleanOptions(only=tuple(classes), checks=checks, apply=True))
    if result["moved"]:
        undo = "retrain clean --undo brings them back"
        log.info("%d unfit pictures went to %s; %s.", result["moved"], result["quarantine"], undo)


def _is_users_own(folder, data):
    """Whether pictures are in a class folder that no crawl has put there."""
    return folder.is_dir() and not crawled_files(data).issuperset(walk(folder))


def _count(folder):
    return sum(1 for _ in walk(folder)) if folder.is_dir() else 0


def _require_enough(counts, data, failures):
    for folder, count in counts.items():
        if count < FEWEST:
            why = "".join(f" ({row['source']}: {row['reason']})" for row in failures[:1])
            hint = f"Call it otherwise, ask more with --source, or put pictures into {data / folder} yourself."
            raise RetrainError(f"{count} pictures of {folder} were found{why}, at least {FEWEST} are needed.", hint)


class _Notes:
    """Which classes were crawled, with what limit, and which of these were cleaned."""

    def __init__(self, path):
        self.path = path
        with suppress(FileNotFoundError, ValueError, RecursionError):
            self._notes = json.loads(path.read_bytes())
            return
        self._notes = {}

    def limit(self, folder):
        return self._notes.get(folder, {}).get("limit", 0)

    def is_clean(self, folder):
        return self._notes.get(folder, {}).get("clean", False)

    def put(self, notes):
        self._notes |= notes
        part = self.path.with_suffix(f".part-{os.getpid()}")
        part.write_text(json.dumps(self._notes))
        part.replace(self.path)
