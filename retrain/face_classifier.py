"""Guess who is on a picture, face by face, with a model that was trained on faces."""

import logging
from dataclasses import dataclass, field

import numpy as np

from retrain.calibrate import pictures_needed
from retrain.classifier import Classifier, Guess
from retrain.faces import crop, detector_file, find_faces
from retrain.model import load_model
from retrain.options import TrustOptions, default_model_dir

log = logging.getLogger("retrain")


@dataclass
class FaceGuess(Guess):
    """Who a face is taken for.  Of a picture without a face, all but the path is empty."""

    box: tuple[int, int, int, int] | None = None  # left, top, width, height: px of the upright picture as stored


@dataclass
class PhotoGuess(Guess):
    """Who is on a picture: itself the guess of its surest face that is known, and empty where there is no face."""

    faces: list[FaceGuess] = field(default_factory=list)  # from left to right


class FaceClassifier(Classifier):
    """A model of faces, ready to guess."""

    kind = PhotoGuess

    def __init__(self, model, trust=TrustOptions()):  # noqa: B008 - frozen
        super().__init__(model, trust)
        detector_file()  # missing, it would be missed at every picture
        if not (self.tells_strangers or self.threshold or self._candidate_from):
            log.warning(
                "This model learned too few faces to tell strangers (%d of %d needed): everybody is taken for somebody "
                "it knows, unless --threshold says from which confidence on.",
                len(model.limits.scores), pictures_needed(model.reject_rate),
            )  # fmt: skip

    @classmethod
    def load(cls, model_dir=None, trust=TrustOptions()):  # noqa: B008 - frozen
        """FaceClassifier of a model folder.  Raises RetrainError, also where the model is of whole pictures."""
        return cls(load_model(model_dir or default_model_dir(), faces=True), trust)

    @property
    def tells_strangers(self):
        """Whether a face unlike all that was learned is told to be unknown."""
        return bool(self._known_from > -np.inf)

    def guess_image(self, image, path="-"):
        """PhotoGuess of a decoded picture."""
        guesses = []
        for face in find_faces(image):
            guess = super().guess_image(crop(image, face), path)
            guesses.append(FaceGuess(**vars(guess), box=face.box))
        surest = max(guesses, key=lambda guess: (not guess.unknown, guess.confidence), default=Guess(str(path)))
        return PhotoGuess(**{name: getattr(surest, name) for name in Guess.__dataclass_fields__}, faces=guesses)


def face_rows(guess):
    """A FaceGuess a face of a PhotoGuess; one where there is no face, or no picture."""
    return guess.faces or [FaceGuess(guess.path, error=guess.error)]
