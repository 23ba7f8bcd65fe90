"""Pictures on which nothing is sharp, at the size that a network sees."""

from retrain.checks import Suspect
from retrain.checks.blank import MIN_CONTRAST

MIN_SHARPNESS = 150  # one hazy picture of 1,000 flowers is below; of these blurred by 1.5 px at 256 px, eight in ten


def find(evidence):
    for path, (*_, contrast, sharpness) in zip(evidence.paths, evidence.measures, strict=True):
        if sharpness < MIN_SHARPNESS and contrast >= MIN_CONTRAST:  # a blank one is told as such
            score = 1 - float(sharpness) / MIN_SHARPNESS
            yield Suspect([path], score, f"its sharpest part has {sharpness:.0f} (limit {MIN_SHARPNESS})")
