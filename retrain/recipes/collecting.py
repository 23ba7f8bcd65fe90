"""Collect: pictures for classes that have none yet, crawled and cleaned.  What is done is noted, and not done again."""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from retrain.checks import CHECKS, QUARANTINE
from retrain.dataset import find_dataset, find_parts, walk
from retrain.errors import RetrainError
from retrain.fetch import ANONYMOUS
from retrain.images import ImageError, decode, read
from retrain.options import CleanOptions
from retrain.recipes.cleaning import clean
from retrain.recipes.crawling import OWN, NoNetworkError, crawl, crawled_files

FEWEST = 10  # pictures a class; fewer teach nothing
SURE = tuple(name for name, check in CHECKS.items() if check.action == QUARANTINE)

log = logging.getLogger("retrain")


def collect(queries, data, options, fewest=FEWEST):
    """Have pictures of each class in `data/<class>`: crawl and clean them where nobody has put any there.

    queries: {class: what to search for}.  options: CrawlOptions.
    Returns {class: its pictures}, and the sources that did not answer.  Raises RetrainError where a class has too few.
    """
    data = Path(data)
    if data.is_dir() and find_parts(data):
        dataset = find_dataset(data, tuple(queries))
        return {name: dataset.labels.count(number) for number, name in enumerate(dataset.classes)}, []
    notes = _Notes(data / OWN / "collected.json")
    crawled = {name: query for name, query in queries.items() if not _holds_own_pictures(data / name, data)}
    failures = _crawl(crawled, data, options, fewest, notes)
    counts = {name: _count(data / name) for name in queries}
    _require_enough(counts, crawled, data, failures, fewest)
    if not all(map(notes.is_clean, crawled)):
        _clean(crawled, data)
        notes.put({name: {"limit": notes.limit(name), "clean": True} for name in crawled})
        counts = {name: _count(data / name) for name in queries}
        _require_enough(counts, crawled, data, failures, fewest)
    return counts, failures


def _crawl(queries, data, options, fewest, notes):
    """Crawl the classes that were not crawled so far, or for less.  Without a network, what is there has to do."""
    missing = {name: query for name, query in queries.items() if notes.limit(name) < options.limit}
    if not missing:
        return []
    if options.limit < fewest:
        raise RetrainError(f"{options.limit} pictures a class are too few.", f"Give --limit {fewest} or more.")
    try:
        result = crawl(missing, data, options)
    except NoNetworkError as error:
        if min(_count(data / name) for name in missing) < fewest:
            raise
        log.warning("%s: what is in %s has to do.", error, data)
        return []
    failed = {row["query"] for row in result["failures"] if row["kind"] != ANONYMOUS}
    notes.put({
        name: {
            "limit": notes.limit(name) if query in failed else options.limit,
            "clean": notes.is_clean(name) and not result["classes"][name]["new"],
        }
        for name, query in missing.items()
    })  # fmt: skip
    return result["failures"]


def _clean(classes, data):
    # Nobody has looked at crawled pictures, so those that look like another class go, too.
    checks = (*SURE, "wrong_label") if len(classes) > 1 else SURE
    result = clean(data, CleanOptions(only=tuple(classes), checks=checks, apply=True))
    if result["moved"]:
        undo = f"retrain clean --undo {data} brings them back"
        log.info("%d unfit pictures went to %s; %s.", result["moved"], result["quarantine"], undo)


def _holds_own_pictures(folder, data):
    """Whether pictures are in a class folder that no crawl has put there."""
    if not folder.is_dir():
        return False
    crawled = crawled_files(data)
    return any(_is_picture(path) for path in walk(folder) if path not in crawled)


def _is_picture(path):
    with suppress(ImageError):
        decode(read(path))
        return True
    return False


def _count(folder):
    return sum(1 for _ in walk(folder)) if folder.is_dir() else 0


def _require_enough(counts, crawled, data, failures, fewest):
    for name, count in counts.items():
        if count < fewest and name in crawled:
            why = "".join(f" ({row['source']}: {row['reason']})" for row in failures[:1])
            raise RetrainError(
                f"{count} pictures of {name} were found{why}, at least {fewest} are needed.",
                f"Call it otherwise, ask more with --source and --limit, or put pictures into {data / name} yourself.",
            )
        if count < fewest:
            raise RetrainError(
                f"{data / name} holds {count} pictures, at least {fewest} are needed.",
                "Add some; without any of your own there, they are crawled.",
            )


class _Notes:
    """Which classes were crawled, with what limit, and which of these were cleaned."""

    def __init__(self, path):
        self.path, self._notes = path, {}
        with suppress(FileNotFoundError, ValueError, RecursionError, AttributeError, TypeError, KeyError):
            notes = json.loads(path.read_bytes())
            self._notes = {
                name: {"limit": int(row["limit"]), "clean": bool(row["clean"])} for name, row in notes.items()
            }

    def limit(self, name):
        return self._notes.get(name, {}).get("limit", 0)

    def is_clean(self, name):
        return self._notes.get(name, {}).get("clean", False)

    def put(self, notes):
        self._notes |= notes
        part = self.path.with_suffix(f".part-{os.getpid()}")
        part.write_text(json.dumps(self._notes))
        part.replace(self.path)
