"""One picture, or copies of it, in two classes."""

from retrain.checks import Suspect
from retrain.checks.evidence import rows_by


def find(evidence):
    for rows in rows_by(evidence.groups):
        labels = sorted({evidence.classes[evidence.labels[row]] for row in rows})
        if len(labels) > 1:
            same = len({evidence.digests[row] for row in rows}) == 1
            what = "the same picture" if same else "copies of one picture"
            yield Suspect([evidence.paths[row] for row in rows], 1.0, f"{what} in {' and '.join(labels)}")
