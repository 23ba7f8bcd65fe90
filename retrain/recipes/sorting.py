"""Sort: file each picture, its sidecars with it, by what is on it."""

import logging
import os
from collections import Counter
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path

from retrain.classifier import Classifier
from retrain.dataset import UNKNOWN, require_folder, walk
from retrain.errors import RetrainError, require_known
from retrain.face_classifier import FaceClassifier, PhotoGuess
from retrain.options import SortOptions
from retrain.progress import track
from retrain.recipes.consent import require_consent
from retrain.recipes.journal import BATCH, HINTS, NAMES, Journal, plain_errors
from retrain.recipes.names import NAME_BYTES, cut, folder_names
from retrain.recipes.sidecars import group
from retrain.scale import spread
from retrain.scale.places import require_local

MODES, LAYOUTS = ["copy", "move", "link"], ["folders", "flat"]
AMBIGUOUS, ERROR, NO_FACE = "_ambiguous", "_error", "_no_face"

log = logging.getLogger("retrain")


def sort_dir(source, destination, options=SortOptions(), classifier=None):  # noqa: B008 - frozen
    """File each picture below `source` under `destination` by its guess, never overwriting, never twice.

    classifier: anything with `labels` and `guess_files`; None loads the model that the options name.
    Of faces, a picture goes to everybody known on it, and only where there is nobody to one of the other folders.
    Returns {"sorted": {label: pictures}, "unknown", "ambiguous", "errors", "journal"}, of faces also "no_face", and a
    picture may count for several labels; a dry run changes nothing and
    adds "plan": [{"source", "destination"}].  Errors are files that are no pictures, in `_error/`, and files that could
    not be filed, which stay where they are.  Raises RetrainError.
    """
    with open_sorter(source, destination, options, classifier) as (sorter, classifier):
        groups = _new_groups(sorter.source, sorter.journal)
        guesses = classifier.guess_files([picture for picture, *_ in groups])
        for group, guess in zip(groups, track(guesses, "Sorting", len(groups)), strict=True):
            sorter.file(group, guess)
    return sorter.result()


@contextmanager
def open_sorter(source, destination, options, classifier=None):
    """Sorter of a folder and the classifier, once all is checked.  The journal is open, and locked, while it lasts."""
    require_known("mode", options.mode, MODES)
    require_known("layout", options.layout, LAYOUTS)
    require_local(source, destination)
    if options.faces:
        _require_faces(source, options)
    with plain_errors(destination):
        source, destination = _check_folders(source, destination)
    if classifier is None:
        kind = FaceClassifier if options.faces else Classifier
        classifier = spread(kind.load(options.model_dir, options), options)
    if getattr(classifier, "is_multilabel", False):
        log.info("This model tells several labels of a picture: each is filed under its best one.")
    with plain_errors(destination), _open_journal(destination, options) as journal:
        yield Sorter(source, journal, options, classifier.labels), classifier


def undo_sort(destination):
    """Put everything back that was sorted into `destination`.

    A file goes only while it is as it was filed, and nothing that stands at its old place is overwritten.
    Returns {"restored": files, "left": [{"path", "reason"}]}.  Raises RetrainError.
    """
    destination = Path(os.path.realpath(destination))
    if not (destination / NAMES["sort"]).is_file():
        raise RetrainError(f"nothing was sorted into {destination}, or it is undone already.", "Check the path.")
    with plain_errors(destination), Journal.open(destination) as journal:
        restored, left = journal.undo()
    return {"restored": restored, "left": [{"path": path, "reason": reason} for path, reason in left.items()]}


def _require_faces(source, options):
    if options.mode == "move":
        raise RetrainError(
            "a picture of several people goes into several folders, and cannot be moved there.",
            "Use --mode copy, or link, which takes no room.",
        )
    require_consent([source], options.i_have_consent, options.engine)


def _check_folders(source, destination):
    source, destination = Path(os.path.realpath(require_folder(source))), Path(os.path.realpath(destination))
    if destination.exists() and not destination.is_dir():
        raise RetrainError(f"{destination} is a file, not a folder.", "Name a folder to sort into.")
    if _lies_in(destination, source) or _lies_in(source, destination):
        raise RetrainError(
            f"{source} and {destination} are one folder, or one holds the other.", "Name another folder to sort into."
        )
    return source, destination


def _lies_in(inner, outer):
    # By identity: a file system may not tell cases apart, or show a folder at two places.
    return any(outer.exists() and folder.exists() and folder.samefile(outer) for folder in [inner, *inner.parents])


def _open_journal(destination, options):
    return nullcontext(Journal(destination)) if options.dry_run else Journal.open(destination)


def _new_groups(source, journal):
    groups = list(group(walk(source)))
    new = [group for group in groups if not all(map(journal.knows, group))]
    if len(new) < len(groups):
        log.info("%d file(s) were sorted before: left alone, but for --undo.", len(groups) - len(new))
    return new


class Sorter:
    """Finds a name for each group and has it filed; in a dry run it only finds the names."""

    def __init__(self, source, journal, options, labels):
        self.source, self.journal, self.options = source, journal, options
        self.folders = folder_names(labels)
        self.outcomes = {}  # picture → names of its folders
        self.plan = {}  # destination → source
        self._numbers = {}  # (folder, stem, known) → last number taken

    def file(self, group, guess):
        """File a picture and its sidecars.  Returns the picture's destination below the journal's folder, or None."""
        picture, destination = group[0], None
        if guess.error:
            log.warning("%s: %s", picture, guess.error)
        outcomes = self._outcomes(guess)
        try:
            destination = self._file(group, [self._place(picture, *outcome) for outcome in outcomes.items()])
        except OSError as error:
            if error.errno in HINTS:
                raise
            log.warning("%s stays where it is: %s.", picture, error.strerror)
            outcomes = {ERROR: None}
        self.outcomes[picture] = list(outcomes)
        if not self.options.dry_run:
            self.journal.commit(at_least=BATCH)
        return destination

    def attach(self, sidecars, picture, destination):
        """File sidecars that came after their picture beside it.  Returns the first one's destination, or None."""
        beside = Path(destination)
        try:
            return self._file(sidecars, [(str(beside.parent), beside.stem)], len(picture.stem))
        except OSError as error:
            if error.errno in HINTS:
                raise
            log.warning("%s stays where it is: %s.", sidecars[0], error.strerror)
            return None

    def _outcomes(self, guess):
        """{name of a folder: confidence}: one folder, or of faces those of everybody who is known."""
        if not isinstance(guess, PhotoGuess) or guess.error:
            return {self._outcome(guess): guess.confidence}
        found = sorted((face.confidence, self._outcome(face)) for face in guess.faces)
        outcomes = {name: confidence for confidence, name in found}  # of one person's faces the surest
        known = {name: confidence for name, confidence in outcomes.items() if name in self.folders.values()}
        return known or outcomes or {NO_FACE: None}

    def _outcome(self, guess):
        if guess.error:
            return ERROR
        if guess.unknown:
            return UNKNOWN
        return AMBIGUOUS if len(guess.candidates or ()) > 1 else self.folders[guess.label]

    def result(self):
        """What `sort_dir` returns."""
        for path, reason in self.journal.failed.items():
            log.warning("%s: %s.", path, reason)
            self.outcomes[Path(path)] = [ERROR]
        counts = Counter(name for names in self.outcomes.values() for name in names)
        result = {
            "sorted": {label: counts[folder] for label, folder in self.folders.items()},
            "unknown": counts[UNKNOWN],
            "ambiguous": counts[AMBIGUOUS],
            "errors": counts[ERROR],
            "journal": str(self.journal.path),
        }
        if self.options.faces:
            result["no_face"] = counts[NO_FACE]
        if self.options.dry_run:
            folder = self.journal.folder
            result["plan"] = [{"source": str(path), "destination": str(folder / to)} for to, path in self.plan.items()]
        return result

    def _place(self, picture, outcome, confidence):
        """Folder, stem of the name there."""
        if self.options.layout == "folders":
            return outcome, picture.stem
        return "", f"{outcome}-{picture.stem}" if confidence is None else f"{outcome}-{confidence:.5f}"

    def _file(self, group, places, known=None):
        """File a group into each of these places (folder, stem of the name there), into all or none.

        known: how much of their own names the stem takes the place of.  Returns the first destination.
        """
        if self.options.mode == "move" and any(self._is_linked(path) for path in group):
            raise OSError(None, "a symbolic link leads to it, and a move would break that")
        if not self.options.dry_run:
            for folder, _ in places:
                self.journal.make_folder(folder)
        # What follows the picture's stem stays, so that a sidecar still belongs to its picture.
        tails = [path.name[known or len(group[0].stem) :] for path in group]
        while True:
            destinations = [name for folder, stem in places for name in self._free_names(folder, stem, known, tails)]
            pairs = list(zip(group * len(places), destinations, strict=True))
            try:
                if not self.options.dry_run:
                    self.journal.file(pairs, self.options.mode)
            except FileExistsError:  # somebody took a name this moment
                continue
            self.plan.update((destination, path) for path, destination in pairs)
            return destinations[0]

    def _free_names(self, folder, stem, known, tails):
        """Destinations of a group in a folder, none of which is taken."""
        key = folder, stem, known
        for number in count(self._numbers.get(key, 1)):
            destinations = [str(Path(folder, name)) for name in _numbered(stem, tails, number)]
            if not any(map(self._is_taken, destinations)):
                self._numbers[key] = number
                return destinations
        raise AssertionError

    def _is_linked(self, path):
        return path.is_symlink() or not path.is_relative_to(self.source)

    def _is_taken(self, destination):
        return destination in self.plan or os.path.lexists(self.journal.folder / destination)


def _numbered(stem, tails, number):
    if number == 1:
        return [stem + tail for tail in tails]
    tails = [f"-{number}{tail}" for tail in tails]
    stem = cut(stem, NAME_BYTES - max(len(os.fsencode(tail)) for tail in tails))
    return [stem + tail for tail in tails]
