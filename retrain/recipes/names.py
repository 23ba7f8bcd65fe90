"""Names for files and folders that every file system takes."""

import logging
import os
import re
import unicodedata
from itertools import count

from retrain.errors import RetrainError

NAME_BYTES = 255  # that most file systems allow
LABEL_BYTES = 200  # of these; the rest is for the confidence, a number and the suffix
UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')  # in a name, on Linux, macOS or Windows
DEVICES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)  # to Windows, in any folder
FORMULA = "=", "+", "-", "@", "\t", "\r"  # how a cell begins that a spreadsheet would compute

log = logging.getLogger("retrain")


class Names:
    """The names given in one folder: no two alike, not even where cases or accents are not told apart."""

    def __init__(self):
        self._taken = set()
        self._numbers = {}  # stem → last number given

    def give(self, stem, suffix=""):
        """That name, with a number where it is taken."""
        for number in count(self._numbers.get(stem, 1)):
            name = f"{stem}-{number}{suffix}" if number > 1 else stem + suffix
            folded = unicodedata.normalize("NFC", name).casefold()
            if folded not in self._taken:
                self._taken.add(folded)
                self._numbers[stem] = number
                return name
        raise AssertionError


def folder_names(labels):
    """{label: name of its folder}: the label itself where every file system takes it, and no two alike in any."""
    names, given = {}, Names()
    for label in labels:
        safe = safe_name(label)
        # A dot would hide the folder, an underscore is for ours.
        names[label] = given.give(f"label{safe}" if not safe or safe[0] in "._" else safe)
        if names[label] != label:
            log.info("%r goes into the folder %r.", label, names[label])
    return names


def class_names(labels, there):
    """{label: name of its class}: a name that is there where it is the same but for accents' encoding, else a new one.

    there: names of classes and folders.  Raises RetrainError where two labels differ by case alone.
    """
    folded = {unicodedata.normalize("NFC", label).casefold() for label in labels}
    if len(folded) < len(set(labels)):
        raise RetrainError("two of these classes differ by case or accents' encoding alone.", "Name each once.")
    known = {unicodedata.normalize("NFC", name): name for name in there}
    found = {label: known.get(unicodedata.normalize("NFC", label)) for label in labels}
    new = folder_names([label for label, name in found.items() if not name])
    return {label: name or new[label] for label, name in found.items()}


def safe_name(text):
    """The text without what some file system refuses; perhaps nothing."""
    return DEVICES.sub(r"\1-", cut(UNSAFE.sub("_", text), LABEL_BYTES).rstrip(". "))


def cut(text, size):
    """The text to so many bytes, at most."""
    while len(os.fsencode(text)) > size:
        text = text[:-1]
    return text


def to_cell(text):
    """A name as a cell of a table that no spreadsheet takes for a formula."""
    return f"'{text}" if text and text.startswith(FORMULA) else text
