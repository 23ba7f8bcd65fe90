"""Pictures so long or so wide that the square which a network sees holds little of them."""

from retrain.checks import Suspect

MAX_RATIO = 4  # longer to shorter side; the longest of 1,580 real photos has 3.4


def find(evidence):
    for path, (width, height) in zip(evidence.paths, evidence.measures[:, :2], strict=True):
        ratio = float(max(width, height) / min(width, height))
        if ratio > MAX_RATIO:
            reason = f"{width:.0f} x {height:.0f} px, {ratio:.1f} to 1 (limit {MAX_RATIO})"
            yield Suspect([path], 1 - MAX_RATIO / ratio, reason)
