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
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from retrain.classifier import Guess
from retrain.errors import writing_to
from retrain.images import ImageError, decode, read
from retrain.model import MANIFEST
from retrain.parallel import ordered_map
from retrain.recipes.explaining import KINDS, explain_image, to_jpeg
from retrain.recipes.locking import locked
from retrain.recipes.names import Names, folder_names, safe_name, to_cell

OWN = ".retrain-learn"
TABLE, PAGE = "results.csv", "index.html"
COLUMNS = ["path", "label", "confidence", "covered", "unknown", "truth", *KINDS, "error"]


class Results:
    """A folder of results, which belongs to one model, one threshold and one folder of pictures."""

    def __init__(self, folder, source, classifier):
        """source: the folder of the pictures, or a picture, as typed."""
        self.folder, self.own = Path(folder), Path(folder) / OWN
        self.typed = str(source) if Path(source).is_dir() else os.path.dirname(source)  # noqa: PTH120 - "" stays
        self.classifier = classifier
        self._folders = folder_names([f"label-{name}" if name in (TABLE, PAGE) else name for name in classifier.labels])
        self._rows, self._names = {}, {}  # name within the source → row; folder → Names

    @classmethod
    @contextmanager
    def open(cls, wanted, source, classifier, model_dir, options):
        """The folder `wanted` where it is free or holds the beginning of just these results, else one beside it."""
        if os.path.basename(os.path.normpath(wanted)) in ("", ".", ".."):  # noqa: PTH119 - Path drops the dot
            wanted = os.path.abspath(wanted)  # noqa: PTH100
        identity = _identity(source, model_dir, options)
        for number in count(1):
            results = cls(f"{Path(wanted)}{'' if number == 1 else f'-{number}'}", source, classifier)
            with writing_to(results.folder):
                if results._takes(identity):
                    break
        with writing_to(results.folder), locked(results.own / "lock", "learn", results.folder):
            results._resume()
            yield results

    def fill(self, paths):
        """Yield the row of each picture, in order; pictures that are as they were when they got theirs keep it.

        A row: {"path", "label", "confidence", "covered": whether the guess counts, "unknown", "truth": the class folder
        that it lies in or None, "original", "heatmap", "segment": files within the results, "error", "sha256"}.
        """

        def look(path):
            row = self._rows.get(self._name_of(path))
            if row and row["status"] == _status(path) and self._has_files(row):
                return path, row, None
            return path, row, _look(self.classifier, path)

        for path, row, looked in ordered_map(look, paths):
            if looked:
                self._forget(row)
                row = self._add(path, looked)
            yield row | {"path": os.path.join(self.typed or ".", row["name"])}  # noqa: PTH118 - keeps the ./

    def write_table(self, rows):
        """Write `results.csv`."""
        part = self.own / TABLE
        with open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            table.writeheader()
            table.writerows(row | {name: to_cell(row[name]) for name in ("label", "truth", *KINDS)} for row in rows)
        part.replace(self.folder / TABLE)

    def _takes(self, identity):
        with suppress(FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
            return json.loads((self.own / "identity.json").read_bytes()) == identity
        if os.path.lexists(self.folder) and (not self.folder.is_dir() or set(os.listdir(self.folder)) - {OWN}):
            return False
        self.own.mkdir(parents=True, exist_ok=True)
        part = self.own / "identity.part"
        part.write_text(json.dumps(identity))
        part.replace(self.own / "identity.json")
        return True

    def _resume(self):
        """Take the rows of an earlier run, and give the files of the last one their place if a kill has kept them."""
        (self.own / "staged").mkdir(exist_ok=True)
        row = None
        for row in _rows_of(self.own / "rows.jsonl"):
            self._rows[row["name"]] = row
        if row:
            self._place(row)
        shutil.rmtree(self.own / "staged")
        (self.own / "staged").mkdir()

    def _add(self, path, looked):
        guess, pictures, status, digest = looked
        row = {
            "name": self._name_of(path), "label": guess.label, "confidence": guess.confidence,
            "covered": bool(pictures), "unknown": guess.unknown, "truth": self._truth(path), **dict.fromkeys(KINDS),
            "error": guess.error, "status": status, "sha256": digest,
        }  # fmt: skip
        if pictures:
            row |= self._free_names(guess.label, path.stem)
            for kind in KINDS:
                (self.own / "staged" / kind).write_bytes(pictures[kind])
        with open(self.own / "rows.jsonl", "ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
        self._place(row)
        self._rows[row["name"]] = row
        return row

    def _place(self, row):
        for kind in KINDS:
            staged = self.own / "staged" / kind
            if row[kind] and staged.exists():
                staged.rename(self.folder / row[kind])

    def _has_files(self, row):
        return all((self.folder / row[kind]).exists() for kind in KINDS if row[kind])

    def _forget(self, row):
        """Remove what was written of a picture that is another now."""
        for kind in KINDS:
            if row and row[kind]:
                (self.folder / row[kind]).unlink(missing_ok=True)

    def _free_names(self, label, stem):
        """{kind: file} for a picture, none of which is there."""
        folder = dict(zip(self.classifier.labels, self._folders.values(), strict=True))[label]
        (self.folder / folder).mkdir(exist_ok=True)
        names = self._names.setdefault(folder, Names())
        safe = safe_name(stem.encode("utf-8", "replace").decode()) or "picture"
        while True:
            name = names.give(safe)
            files = {kind: f"{folder}/{name}-{kind}.jpg" for kind in KINDS}
            if not any(os.path.lexists(self.folder / file) for file in files.values()):
                return files

    def _name_of(self, path):
        """Its path within the source."""
        return str(path.relative_to(self.typed))

    def _truth(self, path):
        parts = path.relative_to(self.typed).parts[:-1]
        return parts[0] if parts and parts[0] in self.classifier.labels else None


def _look(classifier, path):
    """Guess of a file, the JPEGs that explain it where it counts, how the file was when it was read, its sha256."""
    status, digest = _status(path), None
    try:
        data = read(path)
        digest = hashlib.sha256(data).hexdigest()
        image = decode(data)
    except ImageError as error:
        return Guess(str(path), error=str(error)), None, status, digest
    guess = classifier.guess_image(image, path)
    if guess.unknown:
        return guess, None, status, digest
    pictures = explain_image(classifier, image, guess.label)
    return guess, {kind: to_jpeg(picture) for kind, picture in pictures.items()}, status, digest


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


def _rows_of(path):
    """The rows of a file of ours, without those that are damaged; what a kill has torn is taken away."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    length = content.rfind(b"\n") + 1
    if length < len(content):
        os.truncate(path, length)
    for line in content[:length].splitlines():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and {"name", "status", *COLUMNS[1:]} <= row.keys():
                yield row
