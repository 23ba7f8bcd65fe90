"""Pictures of one colour."""

from retrain.checks import Suspect

MIN_CONTRAST = 6  # of 255; the least of 1,580 real photos has 20


def find(evidence):
    for path, contrast in zip(evidence.paths, evidence.measures[:, 3], strict=True):
        if contrast < MIN_CONTRAST:
            score = 1 - float(contrast) / MIN_CONTRAST
            yield Suspect([path], score, f"colours vary by {contrast:.1f} of 255 (limit {MIN_CONTRAST})")
