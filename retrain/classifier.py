"""The light path from a picture to a guess: LiteRT and numpy, neither TensorFlow nor scikit-learn."""

import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from retrain.calibrate import pictures_needed
from retrain.dataset import walk
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.images import ImageError, decode, read
from retrain.metrics import sigmoid, softmax
from retrain.model import load_model
from retrain.options import TrustOptions, default_model_dir
from retrain.parallel import ordered_map


@dataclass
class Guess:
    """What one picture is taken for.  label is the nearest class even where unknown is true.

    Of a model that tells several labels, it is the first of these, and the nearest one where there are none.
    """

    path: str
    label: str | None = None
    confidence: float | None = None  # calibrated, 0-1
    scores: dict[str, float] = field(default_factory=dict)  # every label, best first
    unknown: bool = False
    candidates: list[str] | None = None  # the labels that may be true, where a coverage was asked for; best first
    labels: list[str] | None = None  # all that are told, best first, by a model that tells several
    error: str | None = None  # begins with the reason; all else is then empty

    def as_dict(self, top=None):
        """For JSON; top: how many scores to keep."""
        return asdict(self) | {"scores": dict(list(self.scores.items())[:top])}


class Guesser(ABC):
    """Guesses what is on pictures, wherever these are."""

    kind: type[Guess] = Guess  # of what it guesses

    @abstractmethod
    def guess_image(self, image, path="-"):
        """Guess of a decoded picture."""

    def guess(self, paths):
        """Yield a Guess for each picture in files and folders, in order."""
        return self.guess_files(find_pictures(paths))

    def guess_files(self, paths):
        """Yield a Guess for each file, in order, several at once.  A bad file is a Guess with an error."""
        return ordered_map(self.guess_file, paths)

    def guess_file(self, path):
        try:
            data = read(path)
        except ImageError as error:
            return self.kind(str(path), error=str(error))
        return self.guess_bytes(data, path)

    def guess_bytes(self, data, path="-"):
        """Guess of an encoded picture, such as the bytes of a JPEG file."""
        try:
            return self.guess_image(decode(data), path)
        except ImageError as error:
            return self.kind(str(path), error=str(error))


class Classifier(Guesser):
    """A trained model, ready to guess."""

    def __init__(self, model, trust=TrustOptions()):  # noqa: B008 - frozen
        """trust: from where on a guess counts.  Raises RetrainError where the model cannot promise that."""
        self.model, self.threshold = model, trust.threshold
        self.labels = model.classes
        if self.is_multilabel and (trust.coverage is not None or trust.reject_rate):
            raise RetrainError(
                "this model tells several labels of a picture; coverage and reject rate are for models that tell one.",
                "Leave them out: each label has a threshold of its own, and a --threshold above it raises it.",
            )
        self._known_from = _known_from(model, trust.reject_rate)
        self._candidate_from = None if trust.coverage is None else model.limits.confidence(trust.coverage)

    @classmethod
    def load(cls, model_dir=None, trust=TrustOptions()):  # noqa: B008 - frozen
        """Classifier of a model folder, by default the one that `train` writes.  Raises RetrainError."""
        return cls(load_model(model_dir or default_model_dir()), trust)

    @property
    def is_multilabel(self):
        """Whether a picture may have several labels, each with a probability of its own, or none."""
        return self.model.head.kind == "sigmoid"

    def guess_image(self, image, path="-"):
        return self._guess(self.embed(image), path)

    def guess_parts(self, parts, path="-"):
        """Guess by what each backbone makes of a picture, float32 (1, D_i) each."""
        return self._guess(self.join(parts), path)

    def embed(self, image):
        """Embedding float32 (1, D) of a decoded picture, as the head takes it."""
        return self.join([backbone.embed(backbone.to_input(image)[None]) for backbone in self.model.backbones])

    def join(self, parts):
        """What each backbone makes of pictures, float32 (n, D_i) each, as the head takes it: float32 (n, D)."""
        return normalize(parts)

    def probabilities_of(self, embeddings):
        """Calibrated confidences float32 (n, classes) of normalized embeddings (n, D)."""
        head = self.model.head
        logits = head.logits(embeddings) / np.float32(self.model.temperature)
        return (sigmoid if self.is_multilabel else softmax)(logits)

    @property
    def thresholds(self):
        """Confidence from which each label is told, float32 (classes,); None where a picture has one label."""
        return np.maximum(self.model.head.thresholds, np.float32(self.threshold)) if self.is_multilabel else None

    def labels_of(self, probabilities):
        """Which labels are told, bool (n, classes); None where a picture has one label."""
        return probabilities >= self.thresholds if self.is_multilabel else None

    def known_scores(self, embeddings):
        """How known each picture is, float32 (n,), of normalized embeddings (n, D); None where nobody can tell."""
        return self.model.detector and self.model.detector.scores(embeddings)

    def require_label(self, label):
        """Raise RetrainError with the nearest names where the model has no such label."""
        if label not in self.labels:
            near = get_close_matches(label, self.labels, n=3, cutoff=0.4)
            raise RetrainError(f"the model has no label {label!r}.", f"It has {', '.join(near or self.labels[:10])}.")

    def candidates_of(self, probabilities):
        """Which labels may be true, bool (n, classes): the conformal sets; None where no coverage was asked for."""
        return None if self._candidate_from is None else probabilities >= self._candidate_from

    def unknown(self, embeddings, probabilities):
        """Whether each picture is none of the labels, bool (n,): too strange, not confident enough, or no candidate."""
        if self.is_multilabel:
            return ~self.labels_of(probabilities).any(axis=1)
        unknown = probabilities.max(axis=1) < self.threshold
        if self._known_from > -np.inf:
            unknown |= self.known_scores(embeddings) < self._known_from
        if self._candidate_from is not None:
            unknown |= ~self.candidates_of(probabilities).any(axis=1)
        return unknown

    def _guess(self, embeddings, path):
        probabilities = self.probabilities_of(embeddings)
        order = np.argsort(-probabilities[0], kind="stable")
        scores = {self.labels[number]: float(probabilities[0, number]) for number in order}
        label = next(iter(scores))
        candidates, unknown = self.candidates_of(probabilities), bool(self.unknown(embeddings, probabilities)[0])
        if candidates is not None:
            candidates = [self.labels[number] for number in order if candidates[0, number]]
        told = self.labels_of(probabilities)
        if told is not None:
            told = [self.labels[number] for number in order if told[0, number]]
            label = next(iter(told), label)
        return Guess(str(path), label, scores[label], scores, unknown, candidates, told)


def _known_from(model, reject_rate):
    """Score below which a picture is unknown.  The model's own rate binds where it can be kept, another one always."""
    if reject_rate is None:
        reject_rate = model.reject_rate
        if len(model.limits.scores) < pictures_needed(reject_rate):
            return -np.inf
    return model.limits.score(reject_rate) if reject_rate else -np.inf


def find_pictures(paths):
    """Yield the files among paths and those below the folders among them.  Raises RetrainError on a missing path."""
    for path in map(Path, paths):
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
            yield from walk(path)
        elif os.path.lexists(path):
            yield path
        else:
            raise RetrainError(f"there is no file or folder {path}.", "Check the path.")
