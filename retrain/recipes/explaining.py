"""Explain: what on a picture speaks for its label, as a heat map over it and as the part of it that is hot."""

import io
import os
from pathlib import Path

from retrain.classifier import Classifier, Guess, find_pictures
from retrain.errors import RetrainError, writing_to
from retrain.explain import heat, overlay, require_maps, segment
from retrain.images import ImageError, decode, read
from retrain.options import ExplainOptions
from retrain.parallel import ordered_map
from retrain.progress import track
from retrain.recipes.names import Names, safe_name

KINDS = "original", "heatmap", "segment"
MAX_SIDE = 1600  # px, of the files written
QUALITY = 90  # of JPEG


def explain_pictures(paths, out, options=ExplainOptions()):  # noqa: B008 - frozen
    """Write three JPEGs into `out` for each picture in files and folders; nothing there is ever overwritten.

    Returns an iterator of what `explain --json` prints, a dict a picture: {"path", "label", "confidence", "unknown",
    "original", "heatmap", "segment", "error"}.  Of a bad file all but the path and the error is empty.
    Raises RetrainError.
    """
    classifier, files = Classifier.load(options.model_dir), list(find_pictures(paths))
    if not files:
        raise RetrainError(f"no files under {', '.join(map(str, paths))}.", "Name pictures, or folders that hold some.")
    explainer = Explainer(classifier, paths, out, options.label)
    return map(explainer.row, track(explainer.explain_files(files), "Explaining", len(files)))


def explain_image(classifier, image, label):
    """{kind: picture} of a decoded picture, which is made smaller: itself, the heat over it, the part that is hot."""
    hot = heat(classifier.model, image, classifier.labels.index(label))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return dict(zip(KINDS, (image, overlay(image, hot), segment(image, hot)), strict=True))


def to_jpeg(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


class Explainer:
    """Guesses, and writes beside each guess what speaks for it."""

    def __init__(self, classifier, paths, out, label=None):
        """paths: what will be explained.  out: folder, made where it is missing.  label: None explains the guess."""
        self.classifier, self.out, self.label = classifier, Path(out), label
        self._names = Names()
        require_maps(classifier.model)
        if label is not None:
            classifier.require_label(label)
        require_apart(self.out, paths)
        with writing_to(self.out):
            self.out.mkdir(parents=True, exist_ok=True)

    def explain_files(self, paths):
        """Yield (Guess, {kind: path}) of each file, in order, several at once.  Of a bad file there are no paths."""
        # Named here and not in the threads, so that the names do not depend on who comes first.
        return ordered_map(self._explain_file, ((path, self._free_name(Path(path).stem)) for path in paths))

    def explain_bytes(self, data, path="-", name=None):
        """(Guess, {kind: path}) of an encoded picture.  name: as `_free_name` gives it."""
        try:
            image = decode(data)
        except ImageError as error:
            return Guess(str(path), error=str(error)), dict.fromkeys(KINDS)
        guess = self.classifier.guess_image(image, path)
        pictures = explain_image(self.classifier, image, self._label_of(guess))
        return guess, self._write(name or self._free_name("picture"), pictures)

    def row(self, explained):
        """What `explain --json` prints of a (Guess, {kind: path})."""
        guess, files = explained
        label = None if guess.error else self._label_of(guess)
        judged = {"label": label, "confidence": guess.scores.get(label), "unknown": guess.unknown}
        return {"path": guess.path, **judged, **files, "error": guess.error}

    def _explain_file(self, item):
        path, name = item
        try:
            data = read(path)
        except ImageError as error:
            return Guess(str(path), error=str(error)), dict.fromkeys(KINDS)
        return self.explain_bytes(data, path, name)

    def _label_of(self, guess):
        return guess.label if self.label is None else self.label

    def _write(self, name, pictures):
        paths = self._paths(name)
        for path, kind in zip(paths, KINDS, strict=True):
            with writing_to(self.out), open(path, "xb") as file:
                file.write(to_jpeg(pictures[kind]))
        return dict(zip(KINDS, map(str, paths), strict=True))

    def _free_name(self, stem):
        safe = safe_name(stem.encode("utf-8", "replace").decode()) or "picture"
        while True:
            name = self._names.give(safe)
            if not any(map(os.path.lexists, self._paths(name))):
                return name

    def _paths(self, name):
        return [self.out / f"{name}-{kind}.jpg" for kind in KINDS]


def require_apart(out, paths):
    """Raise RetrainError where what is written would be among what is explained, or learned, the next time."""
    real = Path(os.path.realpath(out))
    for path in paths:
        if real.is_relative_to(os.path.realpath(path)):
            raise RetrainError(f"{out} lies in {path}, whose pictures it would join.", "Name a folder elsewhere.")
