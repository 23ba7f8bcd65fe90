"""Prepare: a folder of pictures → their embeddings, which are copies of which, and a split that tears none apart."""

import logging
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.backbones import Backbone, load_backbone, names_of
from retrain.bottlenecks import Kind, Store, embed_files
from retrain.dataset import (
    NOHASH,
    TESTING,
    Dataset,
    choose,
    legacy_part,
    related_by_name,
    require_classes,
    split,
    warn_of_small_classes,
)
from retrain.duplicates import find_pairs, group_by
from retrain.errors import RetrainError, require_known
from retrain.faces import FaceBackbone
from retrain.head import normalize
from retrain.images import DECODER_VERSION, ImageError
from retrain.multilabel.data import find_labelled, merge_same
from retrain.multilabel.data import split as split_multilabel
from retrain.options import BALANCES, SPLITS

NAMED = 5  # pictures named in a warning
COLUMNS = 128  # of embeddings, put into another order at a time
# Width and height before decoding, which brings large pictures down.
SIZE = Kind(f"size-decoder{DECODER_VERSION}", np.int32, 2, lambda image: np.int32(image.info["original_size"]))

log = logging.getLogger("retrain")


@dataclass
class Prepared:
    """The pictures used, row by row, and those that are not."""

    dataset: Dataset
    backbones: list[Backbone]
    embeddings: np.ndarray  # float32 (n, D), normalized
    digests: list[bytes]  # sha256 of each file
    groups: list[bytes]  # the same for copies of one picture
    parts: np.ndarray  # str (n,)
    left_out: int  # pictures, to balance the classes
    unknown: np.ndarray  # float32 (m, D), normalized, of what lies in `_unknown/`
    skipped: list[tuple[Path, ImageError]]
    computed: int  # files that were decoded

    def part_embeddings(self, learned, tested):
        """Embeddings of these rows and of those, together all; they take the place of `embeddings`, which is gone then.

        learned, tested: int (n,) and (m,).  Of many pictures a copy fills the memory.
        """
        order = np.concatenate([learned, tested])
        for start in range(0, self.embeddings.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            self.embeddings[:, columns] = self.embeddings[order, columns]
        parts = np.split(self.embeddings, [len(learned)])
        del self.embeddings
        return parts


def prepare(data, backbone, options, store_path):
    """Prepared pictures of a folder with one folder a class.  backbone: its name, or several joined by +."""
    require_known("split", options.split, SPLITS)
    require_known("balance", options.balance, BALANCES)
    dataset = find_labelled(data, options.only, options.multi_label)
    if dataset.targets is not None:
        _require_plain(options)
    require_classes(dataset, data)
    backbones = [load_backbone(name) for name in names_of(backbone)]
    if getattr(options, "faces", False):  # of TrainOptions alone
        backbones = list(map(FaceBackbone.of, backbones))
    with Store(store_path) as store:
        sizes = [SIZE] if any(options.min_size) else []
        embedded = embed_files(dataset.paths, backbones, store, sizes)
        strangers = embed_files(dataset.unknown, backbones, store, sizes)
        _leave_out_small(embedded, dataset.paths, options.min_size)
        _leave_out_small(strangers, dataset.unknown, options.min_size)
        dataset = _keep_pictures(dataset, embedded, data)
        embeddings = normalize(embedded.embeddings, out=embedded.joined)  # of many pictures a copy fills the memory
        digests, groups = embedded.digests, _groups(dataset, embedded, embeddings, options)
        rows = _choose(dataset, digests, groups, options)
        left_out = len(dataset) - len(rows)
        if left_out:
            dataset, embeddings = dataset.take(rows), embeddings[rows]
            digests, groups = [digests[row] for row in rows], [groups[row] for row in rows]
        parts = _parts(dataset, groups, data, options)
        if dataset.parts is None and options.split == "content":
            _tell_moved(dataset, digests, parts == TESTING, store, options)
    dataset.unknown = [dataset.unknown[row] for row in strangers.kept]
    return Prepared(
        dataset, backbones, embeddings, digests, groups, parts, left_out, normalize(strangers.embeddings),
        dataset.refused + embedded.skipped + strangers.skipped, embedded.computed + strangers.computed,
    )  # fmt: skip


def _require_plain(options):
    """Raise RetrainError on options that mean nothing where a picture counts for several labels."""
    asked = {
        "--split legacy": options.split != "content",
        "--balance cut": options.balance == "cut",
        "--max-per-class": options.max_per_class is not None,
        "fine-tuning": getattr(options, "fine_tunes", False),  # of TrainOptions alone
        "--faces": getattr(options, "faces", False),
    }
    for name in filter(asked.get, asked):
        raise RetrainError(f"{name} is for pictures of one label; these have several.", "Leave it out.")


def _leave_out_small(embedded, paths, min_size):
    """Move pictures of fewer pixels to the files skipped."""
    for sizes in embedded.others:
        small = (sizes < min_size).any(axis=1)
        for row in np.flatnonzero(small):
            width, height = sizes[row]
            error = ImageError("too_small", f"{width} x {height} px, the limit is {min_size[0]} x {min_size[1]}")
            embedded.skipped.append((paths[embedded.kept[row]], error))
        _keep_rows(embedded, np.flatnonzero(~small))


def _keep_rows(embedded, rows):
    embedded.kept, embedded.digests = ([column[row] for row in rows] for column in (embedded.kept, embedded.digests))
    embedded.joined = embedded.joined[rows]
    embedded.thumbnails = embedded.thumbnails[rows]


def _keep_pictures(dataset, embedded, data):
    """The data set without the files that are no pictures and the classes that lost all."""
    if not embedded.kept and embedded.skipped:
        reasons = Counter(error.reason for _, error in embedded.skipped)
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise RetrainError(
            f"no pictures under {data} ({reasons.total()} files looked at, all refused: {counts}).",
            "Put JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC pictures there.",
        )
    dataset = dataset.take(embedded.kept)
    if dataset.targets is not None:
        rows, targets = merge_same(dataset, embedded.digests)
        _keep_rows(embedded, rows)
        dataset = replace(dataset.take(rows), targets=targets)
    present = np.flatnonzero(dataset.counts()).tolist()
    for lost in sorted(set(range(len(dataset.classes))) - set(present)):
        log.warning("class %s holds no picture: left out.", dataset.classes[lost])
    dataset = dataset.take_classes(present)
    require_classes(dataset, data)
    warn_of_small_classes(dataset)
    return dataset


def _groups(dataset, embedded, embeddings, options):
    pairs = find_pairs(embeddings, embedded.thumbnails)
    if len(pairs.first) and options.split == "content":
        log.info("%d pair(s) of near-duplicates: each stays on one side of the split.", len(pairs.first))
    patterns = [NOHASH, *filter(None, [options.group_by])]
    return group_by(embedded.digests, pairs[:2], related_by_name(dataset.paths, patterns))


def _choose(dataset, digests, groups, options):
    """Rows that stay when classes are cut.  A test/ of the user's own stays whole."""
    if dataset.targets is not None:
        return range(len(dataset))
    whole = [row for row, part in enumerate(dataset.parts or ()) if part == TESTING]
    rows = sorted(set(range(len(dataset))) - set(whole))
    labels = [dataset.labels[row] for row in rows]
    limits = [] if options.max_per_class is None else [options.max_per_class]
    if options.balance == "cut":
        limits.append(min(Counter(labels).values(), default=0))
    if not limits:
        return [*rows, *whole]
    chosen = choose(labels, [digests[row] for row in rows], [groups[row] for row in rows], min(limits))
    if len(chosen) < len(rows):
        log.info("at most %d pictures a class: %d of %d left out.", min(limits), len(rows) - len(chosen), len(rows))
    return sorted([*(rows[row] for row in chosen), *whole])


def _parts(dataset, groups, data, options):
    """Part of each picture.  Raises RetrainError where a class has nothing to learn from."""
    shares = {"test_share": options.test_share, "validation_share": options.validation_share}
    if dataset.parts is None and options.split == "content":
        if dataset.targets is not None:
            return split_multilabel(dataset.targets, groups, **shares)
        return split(dataset.labels, groups, **shares)
    if dataset.parts is not None:
        parts = np.array(dataset.parts)
        tested, learned, hint = "test/", "train/", "Add some to train/, or use --only."
    else:
        # Path would drop a leading ./ of what was typed, and with it the hash would be another.
        typed = [os.path.join(data, path.relative_to(data)) for path in dataset.paths]  # noqa: PTH118
        parts = np.array([legacy_part(path, **shares) for path in typed])
        tested, learned, hint = "the test", "what is learned", "Add some, or use --split content."
    untrained = np.flatnonzero(dataset.take(np.flatnonzero(parts != TESTING)).counts() == 0)
    if len(untrained):
        names = ", ".join(dataset.classes[number] for number in untrained)
        raise RetrainError(f"{names}: pictures in {tested} only, none in {learned}.", hint)
    trained = {group for group, part in zip(groups, parts, strict=True) if part != TESTING}
    leaked = sum(group in trained for group, part in zip(groups, parts, strict=True) if part == TESTING)
    if leaked:
        log.warning("%d picture(s) of %s have a copy in %s: the accuracy is flattered.", leaked, tested, learned)
    return parts


def _tell_moved(dataset, digests, tested, store, options):
    """Say which pictures are on the other side of the test than at their last training."""
    before = store.tested(options.test_share)
    now = dict(zip(digests, tested.tolist(), strict=True))
    for was, words in [(True, "learned, not tested any more"), (False, "tested, not learned any more")]:
        rows = [row for row, digest in enumerate(digests) if before.get(digest) is was and now[digest] is not was]
        if rows:
            names = ", ".join(str(dataset.paths[row]) for row in rows[:NAMED])
            more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
            log.warning("%s, because copies of them or others of their class came or went: %s%s.", words, names, more)
    changed = {digest: kept_back for digest, kept_back in now.items() if before.get(digest) is not kept_back}
    store.note_tested(options.test_share, changed)
