"""What may be wrong with a picture set: one file a check, with one function `find(evidence)` that yields Suspects.

To add one: its file, and its line in CHECKS.
"""

import importlib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from retrain.errors import RetrainError

QUARANTINE, REVIEW = "quarantine", "review"


@dataclass(frozen=True)
class Suspect:
    """Pictures that a check points at.  score: 0 to 1, 1 the worst; reason: with the value measured and its limit."""

    paths: list[Path]
    score: float
    reason: str
    keep: Path | None = None  # of the paths, the one that stays where the others go
    sure: bool = True  # else none is moved, whatever was asked for


class Check(NamedTuple):
    action: str  # of --apply; REVIEW only says
    what: str
    needs_classes: bool = False
    needs_embeddings: bool = False


# In the order in which they are told.
CHECKS = {
    "unreadable": Check(QUARANTINE, "no picture, or a damaged one"),
    "identical": Check(QUARANTINE, "the same bytes"),
    "near_duplicate": Check(QUARANTINE, "copies of one picture in one class", needs_embeddings=True),
    "two_labels": Check(REVIEW, "one picture in two classes", needs_classes=True, needs_embeddings=True),
    "wrong_label": Check(REVIEW, "looks like another class", needs_classes=True, needs_embeddings=True),
    "blank": Check(QUARANTINE, "nothing on it"),
    "tiny": Check(QUARANTINE, "too few pixels"),
    "dark": Check(REVIEW, "hardly any light"),
    "blurred": Check(REVIEW, "nothing on it is sharp"),
    "odd_shape": Check(REVIEW, "far longer than wide, or wider than long"),
}


def load_check(name):
    """The function find(evidence) of a check."""
    return importlib.import_module(f"retrain.checks.{name}").find


def require_checks(names):
    """Raise RetrainError unless all are names of checks."""
    for name in names:
        if name not in CHECKS:
            near = get_close_matches(name, CHECKS)
            raise RetrainError(f"there is no check {name!r}.", f"There is: {', '.join(near or CHECKS)}.")
