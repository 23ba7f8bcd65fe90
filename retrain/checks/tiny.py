"""Pictures of too few pixels, such as icons."""

from retrain.checks import Suspect

MIN_SIDE = 24  # px; well-known sets of digits have 28


def find(evidence):
    for path, (width, height) in zip(evidence.paths, evidence.measures[:, :2], strict=True):
        side = min(width, height)
        if side < MIN_SIDE:
            score = 1 - float(side) / MIN_SIDE
            yield Suspect([path], score, f"{width:.0f} x {height:.0f} px (limit {MIN_SIDE})")
