"""Results: the folder in which guesses lie beside what speaks for them, and which a stopped run goes on to fill.

results/cat/NAME-{original,heatmap,segment}.jpg
results/results.csv
results/.retrain-learn/rows.jsonl      a line a picture, written before its files get their place
"""

import csv
import hashlib
import json
import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from retrain.classifier import Guess
from retrain.errors import RetrainError
from retrain.images import ImageError, decode, read
from retrain.model import MANIFEST
from retrain.parallel import ordered_map
from retrain.recipes.explaining import KINDS, explain_image, to_jpeg
from retrain.recipes.names import Names, folder_names, safe_name

OWN = ".retrain-learn"
TABLE = "results.csv"
COLUMNS = ["path", "label", "confidence", "covered", "unknown", "truth", *KINDS, "error"]


class Results:
    """A folder of results, which belongs to one model, one threshold and one folder of pictures."""

    def __init__(self, folder, source):
        self.folder, self.own, self.source = Path(folder), Path(folder) / OWN, Path(source)
        self.rows = {}  # path → row
        self._names = {}  # folder → Names

    @classmethod
    def open(cls, wanted, source, model_dir, options):
        """The folder `wanted` where it is free or holds the beginning of just these results, else one beside it."""
        identity = _identity(source, model_dir, options)
        try:
            for number in count(1):
                results = cls(wanted if number == 1 else f"{wanted}-{number}", source)
                if results._takes(identity):
                    results._resume()
                    return results
        except OSError as error:
            raise _unwritable(results.folder, error) from error
        raise AssertionError

    def fill(self, classifier, paths):
        """Yield the row of each picture, in order; pictures that are as they were when they got theirs keep it.

        A row: {"path", "label", "confidence", "covered": whether the guess counts, "unknown", "truth": the class folder
        that it lies in or None, "original", "heatmap", "segment": files within the results, "error"}.
        """
        folders = folder_names(classifier.labels)

        def look(path):
            row = self.rows.get(str(path))
            if row and row["status"] == _status(path):
                return path, row, None
            return path, None, _look(classifier, path)

        try:
            for path, row, looked in ordered_map(look, paths):
                if looked:
                    row = self._add(path, looked, classifier.labels, folders)
                yield row
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def write_table(self):
        """Write `results.csv`."""
        part = self.own / TABLE
        try:
            with open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                table.writeheader()
                table.writerows(self.rows.values())
            part.replace(self.folder / TABLE)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _takes(self, identity):
        try:
            return json.loads((self.own / "identity.json").read_bytes()) == identity
        except (OSError, ValueError, RecursionError):
            pass
        if os.path.lexists(self.folder) and (not self.folder.is_dir() or os.listdir(self.folder)):
            return False
        self.own.mkdir(parents=True)
        (self.own / "identity.json").write_text(json.dumps(identity))
        return True

    def _resume(self):
        """Take the rows of an earlier run, and give the files of the last one their place if a kill has kept them."""
        (self.own / "staged").mkdir(exist_ok=True)
        for line in _lines(self.own / "rows.jsonl"):
            row = json.loads(line)
            self.rows[row["path"]] = row
        if self.rows:
            self._place(row)
        shutil.rmtree(self.own / "staged")
        (self.own / "staged").mkdir()

    def _add(self, path, looked, labels, folders):
        guess, pictures, status = looked
        row = {
            "path": str(path), "label": guess.label, "confidence": guess.confidence, "covered": bool(pictures),
            "unknown": guess.unknown, "truth": self._truth(path, labels), **dict.fromkeys(KINDS),
            "error": guess.error, "status": status,
        }  # fmt: skip
        if pictures:
            row |= self._free_names(folders[guess.label], path.stem)
            for kind in KINDS:
                (self.own / "staged" / kind).write_bytes(pictures[kind])
        with open(self.own / "rows.jsonl", "ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
        self._place(row)
        self.rows[row["path"]] = row
        return row

    def _place(self, row):
        for kind in KINDS:
            staged = self.own / "staged" / kind
            if row[kind] and staged.exists():
                staged.rename(self.folder / row[kind])

    def _free_names(self, folder, stem):
        """{kind: file} for a picture, none of which is there."""
        (self.folder / folder).mkdir(exist_ok=True)
        names = self._names.setdefault(folder, Names())
        safe = safe_name(stem.encode("utf-8", "replace").decode()) or "picture"
        while True:
            name = names.give(safe)
            files = {kind: f"{folder}/{name}-{kind}.jpg" for kind in KINDS}
            if not any(os.path.lexists(self.folder / file) for file in files.values()):
                return files

    def _truth(self, path, labels):
        parts = path.relative_to(self.source).parts[:-1]
        return parts[0] if parts and parts[0] in labels else None


def _look(classifier, path):
    """Guess of a file, the JPEGs that explain it where it counts, and how the file was when it was read."""
    status = _status(path)
    try:
        image = decode(read(path))
    except ImageError as error:
        return Guess(str(path), error=str(error)), None, status
    guess = classifier.guess_image(image, path)
    if guess.unknown:
        return guess, None, status
    pictures = explain_image(classifier, image, guess.label)
    return guess, {kind: to_jpeg(picture) for kind, picture in pictures.items()}, status


def _status(path):
    with suppress(OSError):
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    return None


def _identity(source, model_dir, options):
    manifest = (Path(model_dir) / MANIFEST).read_bytes()
    return {
        "folder": os.path.realpath(source), "model": hashlib.sha256(manifest).hexdigest(),
        "threshold": options.threshold, "reject_rate": options.reject_rate,
    }  # fmt: skip


def _lines(path):
    """The whole lines of a file; what a kill has torn is taken away."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    length = content.rfind(b"\n") + 1
    if length < len(content):
        os.truncate(path, length)
    return content[:length].splitlines()


def _unwritable(folder, error):
    return RetrainError(f"cannot write to {folder}: {error.strerror or error}.", "Name a folder that you may write to.")
