"""Copies of one picture in one class: resized, recompressed, cropped by some percent, mirrored, brighter or darker."""

from collections import defaultdict

from retrain.checks import Suspect
from retrain.checks.evidence import rows_by
from retrain.duplicates import SAME_CROPPED_BITS


def find(evidence):
    pairs = evidence.pairs
    # A group joins what pairs hold together: its score is that of its least alike pair.
    weakest: dict[bytes, tuple[float, int]] = {}
    for first, cosine, bits in zip(pairs.first, pairs.cosine, pairs.bits, strict=True):
        name = evidence.groups[first]
        weakest[name] = min(weakest.get(name, (1.0, 0)), (float(cosine), -int(bits)))
    for rows in rows_by(evidence.groups):
        one_class = len({evidence.labels[row] for row in rows}) == 1
        # Files of the same bytes are told as such: here one of them stands for all.
        distinct = defaultdict(list)
        for row in rows:
            distinct[evidence.digests[row]].append(row)
        rows = [evidence.best(same) for same in distinct.values()]
        if one_class and len(rows) > 1:
            cosine, bits = weakest[evidence.groups[rows[0]]]
            yield Suspect(
                [evidence.paths[row] for row in rows],
                min(1.0, cosine),
                f"{len(rows)} copies of one picture: likeness {cosine:.2f}, {-bits} of 256 bits differ "
                f"(limit {SAME_CROPPED_BITS})",
                evidence.paths[evidence.best(rows)],
            )
