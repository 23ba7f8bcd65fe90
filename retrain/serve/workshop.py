"""What Studio does: it shows and changes the album, and trains, cleans, sorts and exports in jobs."""

import hashlib
import os
import secrets
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from retrain.classifier import Classifier
from retrain.dataset import is_own
from retrain.exports.writing import export
from retrain.model import REPORT
from retrain.options import CleanOptions, ExportOptions, SortOptions, TrainOptions, default_data, tf_files
from retrain.recipes.cleaning import clean
from retrain.recipes.cropping import FOLDER as FACES
from retrain.recipes.names import safe_name
from retrain.recipes.sorting import sort_dir, undo_sort
from retrain.recipes.training import train
from retrain.serve.album import ID_LETTERS, Album

SORTED = "sorted"
OURS = {SORTED, FACES, "export", "quarantine", "clean", "fine-tuning"}  # folders in tf_files
COVER, MOST_PLANNED = 4, 500
TICKET_S = 60


class Studio:
    """What the routes share.  The data is opened, and kept from other servers, at the first look at it."""

    def __init__(self, options, engine, jobs):
        """options: ServeOptions."""
        self.options, self.engine, self.jobs = options, engine, jobs
        self._album, self._stack, self._opening = None, ExitStack(), threading.Lock()
        self._sorted: list[tuple[int, Path]] = []  # folders sorted into, each with the album's steps until then
        self._tickets: dict[str, float] = {}

    @property
    def album(self):
        """Raises RetrainError where the data cannot be changed here."""
        with self._opening:
            if self._album is None:
                album = Album(self.options.data or default_data())
                self._album = self._stack.enter_context(album.opened())
            return self._album

    def close(self):
        self._stack.close()

    def state(self):
        """What the page shows."""
        classes = self.album.classes()
        return {
            "classes": [
                {
                    "id": each.id, "name": each.name, "pictures": len(each.pictures),
                    "cover": [self.album.id_of(path) for path in each.pictures[:COVER]],
                }
                for each in classes
            ],
            "model": self._model(classes),
            "job": self.jobs.last and self.jobs.last.as_dict(),
            "undo": self._undoable(),
            "report": self.report is not None,
            "folders": [{"id": number, "name": path.name} for number, path in self.folders().items()],
            "limits": {"max_bytes": self.options.max_bytes, "max_images": self.options.max_images},
        }  # fmt: skip

    @property
    def report(self):
        """File of the page about the model that is served; None where there is none."""
        path = Path(self.engine.folder) / REPORT
        # One that is not served may be of faces, and its page shows them.
        return path if self.engine.is_current and path.is_file() else None

    def _model(self, classes):
        if not self.engine.version:
            return None
        served = self.engine.served
        info = served.model.info
        metrics = info.get("metrics") or {}
        return {
            "version": served.version, "labels": served.model.classes,
            **{key: metrics.get(key) for key in ("accuracy", "accuracy_interval", "test_images")},
            "stale": info.get("counts") != {each.name: len(each.pictures) for each in classes if each.pictures},
        }  # fmt: skip

    def folders(self):
        """{id: path} of what may be sorted: folders of pictures in tf_files, and those that --allow names."""
        home = Path(os.path.realpath(tf_files()))
        found = [Path(os.path.realpath(path)) for path in self.options.allow]
        if home.is_dir():
            found += [path for path in sorted(home.iterdir()) if self._is_sortable(path)]
        return {hashlib.sha256(os.fsencode(path)).hexdigest()[:ID_LETTERS]: path for path in found}

    def _is_sortable(self, path):
        if path.is_symlink() or not path.is_dir() or path.name.startswith(".") or path.name in OURS or is_own(path):
            return False
        return not path.samefile(self.album.folder)

    def _undoable(self):
        last = self.album.last
        if self._sorted and (last is None or last.number < self._sorted[-1][0]):
            return f"sorted into {self._sorted[-1][1].name}"
        return last and last.text

    def undo(self):
        """Undo the last thing, and say what that was.  Raises TakenError."""
        last = self.album.last
        if self._sorted and (last is None or last.number < self._sorted[-1][0]):
            _, folder = self._sorted.pop()
            undo_sort(folder)
            return f"sorted into {folder.name}"
        return self.album.undo().text

    def train(self, quality):
        result = train(self.album.folder, TrainOptions(quality=quality, model_dir=self.engine.folder))
        self.engine.reload()
        wanted = "accuracy", "accuracy_interval", "test_images", "classes", "images", "seconds", "advice"
        return {key: result.get(key) for key in wanted} | {"skipped": len(result["skipped"])}

    def find_suspects(self):
        findings = clean(self.album.folder, CleanOptions())["findings"]
        return {
            "findings": [
                {key: each[key] for key in ("check", "reason", "score")}
                | {
                    "names": [str(Path(path).relative_to(self.album.folder)) for path in each["paths"]],
                    "pictures": [self.album.id_of(Path(path)) for path in each["paths"]],
                    "keep": each["keep"] and self.album.id_of(Path(each["keep"])),
                }
                for each in findings
            ]
        }

    def sort(self, asked):
        """asked: Sorting, of a folder that is there."""
        source = self.folders()[asked.folder]
        target = Path(os.path.realpath(tf_files())) / SORTED / (safe_name(source.name) or "folder")
        options = SortOptions(model_dir=self.engine.folder, mode=asked.mode, dry_run=asked.dry_run)
        result = sort_dir(source, target, options, Classifier(self.engine.served.model, self.engine.trust))
        rows = [
            {"from": Path(row["source"]).name, "to": str(Path(row["destination"]).relative_to(target))}
            for row in result.get("plan", ())[:MOST_PLANNED]
        ]
        if not asked.dry_run:
            self._sorted.append((self.album.steps, target))
        told = {key: result[key] for key in ("sorted", "unknown", "ambiguous", "errors")}
        return told | {"to": target.name, "plan": rows}

    def export(self, name):
        export([name], ExportOptions(model_dir=self.engine.folder))
        return {"format": name}

    def ticket(self):
        """A word that opens the report once, soon: a new tab cannot bring a token."""
        now = time.monotonic()
        self._tickets = {word: until for word, until in self._tickets.items() if until > now}
        word = secrets.token_urlsafe(16)
        self._tickets[word] = now + TICKET_S
        return word

    def redeem(self, word):
        return self._tickets.pop(word, 0.0) > time.monotonic()
