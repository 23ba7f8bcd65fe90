"""Pictures on which nothing is sharp, at the size that a network sees."""

from retrain.checks import Suspect
from retrain.checks.blank import MIN_CONTRAST
from retrain.checks.dark import MIN_LIGHT

MIN_SHARPNESS = 200  # the least of 1,580 real photos has 360; blurred by 2.5 px at 256 px, all of 1,000 are below


def find(evidence):
    for path, (*_, light, contrast, sharpness) in zip(evidence.paths, evidence.measures, strict=True):
        # A blank or a dark one is told as such.
        if sharpness < MIN_SHARPNESS and contrast >= MIN_CONTRAST and light >= MIN_LIGHT:
            score = 1 - float(sharpness) / MIN_SHARPNESS
            yield Suspect([path], score, f"its sharpest part has {sharpness:.0f} (limit {MIN_SHARPNESS})")
