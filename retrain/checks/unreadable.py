"""Files that yield no picture."""

from retrain.checks import Suspect


def find(evidence):
    for path, error in evidence.refused:
        yield Suspect([path], 1.0, str(error))
