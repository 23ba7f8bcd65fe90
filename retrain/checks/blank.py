"""Pictures of one colour."""

from retrain.checks import Suspect

MIN_CONTRAST = 6  # of 255; the least of 1,580 real photos has 15


def find(evidence):
    for path, contrast in zip(evidence.paths, evidence.measures[:, 3], strict=True):
        if contrast < MIN_CONTRAST:
            score = 1 - float(contrast) / MIN_CONTRAST
            yield Suspect([path], score, f"brightness varies by {contrast:.1f} (limit {MIN_CONTRAST} of 255)")
