"""The light path from a picture to a guess: LiteRT and numpy, neither TensorFlow nor scikit-learn."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from retrain.dataset import walk
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.images import ImageError, decode, read
from retrain.metrics import softmax
from retrain.model import load_model
from retrain.options import default_model_dir
from retrain.parallel import ordered_map


@dataclass
class Guess:
    """What one picture is taken for.  label is the nearest class even where unknown is true."""

    path: str
    label: str | None = None
    confidence: float | None = None  # calibrated, 0-1
    scores: dict[str, float] = field(default_factory=dict)  # every label, best first
    unknown: bool = False
    error: str | None = None  # begins with the reason; all else is then empty

    def as_dict(self, top=None):
        """For JSON; top: how many scores to keep."""
        return asdict(self) | {"scores": dict(list(self.scores.items())[:top])}


class Classifier:
    """A trained model, ready to guess."""

    def __init__(self, model, threshold=0.0):
        """threshold: below this confidence a picture is unknown."""
        self.model, self.threshold = model, threshold
        self.labels = model.classes

    @classmethod
    def load(cls, model_dir=None, threshold=0.0):
        """Classifier of a model folder, by default the one that `train` writes.  Raises RetrainError."""
        return cls(load_model(model_dir or default_model_dir()), threshold)

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
            return Guess(str(path), error=str(error))
        return self.guess_bytes(data, path)

    def guess_bytes(self, data, path="-"):
        """Guess of an encoded picture, such as the bytes of a JPEG file."""
        try:
            probabilities = self.probabilities(decode(data))
        except ImageError as error:
            return Guess(str(path), error=str(error))
        order = np.argsort(-probabilities, kind="stable")
        scores = {self.labels[number]: float(probabilities[number]) for number in order}
        label, confidence = next(iter(scores.items()))
        return Guess(str(path), label, confidence, scores, unknown=confidence < self.threshold)

    def probabilities(self, image):
        """Calibrated confidences float32 (classes,) of a decoded picture."""
        embeddings = normalize([backbone.embed(backbone.to_input(image)[None]) for backbone in self.model.backbones])
        return self.probabilities_of(embeddings)[0]

    def probabilities_of(self, embeddings):
        """Calibrated confidences float32 (n, classes) of normalized embeddings (n, D)."""
        return softmax(self.model.head.logits(embeddings) / np.float32(self.model.temperature))


def find_pictures(paths):
    """Yield the files among paths and those below the folders among them.  Raises RetrainError on a missing path."""
    for path in map(Path, paths):
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
            yield from walk(path)
        elif os.path.lexists(path):
            yield path
        else:
            raise RetrainError(f"there is no file or folder {path}.", "Check the path.")
