"""Pictures with hardly any light.  A dark one with something bright on it is none."""

from retrain.checks import Suspect
from retrain.checks.blank import MIN_CONTRAST

MIN_LIGHT = 60  # of 255, the brightest hundredth; the darkest of 1,580 real photos, black on black, has 98


def find(evidence):
    for path, (_, _, light, contrast, _) in zip(evidence.paths, evidence.measures, strict=True):
        if light < MIN_LIGHT and contrast >= MIN_CONTRAST:  # a blank one is told as such
            score = 1 - float(light) / MIN_LIGHT
            yield Suspect([path], score, f"99 % of it is darker than {light:.0f} of 255 (limit {MIN_LIGHT})")
