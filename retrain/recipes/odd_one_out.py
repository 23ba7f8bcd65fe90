"""Find the odd one out: the pictures that are not what a label says, or that do not belong with the others."""

from pathlib import Path

import numpy as np

from retrain.backbones import find_spec, generic_mean, load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.classifier import Classifier, find_pictures
from retrain.dataset import class_folders, walk
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.model import find_classes
from retrain.odd import BELIEVED, FEWEST, STRANGE, doubts, find_odd, margin, place, strangeness
from retrain.options import OddOptions, default_data, default_model_dir
from retrain.recipes.names import class_names
from retrain.recipes.training import skipped_rows

BACKBONES = "efficientnet-lite0", "efficientnet-lite2"  # side by side they tell more, and a set is small


def find_odd_one_out(paths, options=OddOptions()):  # noqa: B008 - frozen
    """Which of the pictures in files and folders do not belong: by a label, else by one another.

    A label that the model does not know is learned: pictures of it are crawled into the data folder, unless some lie
    there, and the model is trained anew with that class added.  Where there is no other class to tell it from, the
    distance to these pictures decides.
    Returns what `odd --json` prints: {"odd": paths, the oddest first, "scores": {path: how odd, 0 and more}, "margin":
    between the odd ones and the others, "label", "by": "one another", "model" or "pictures of the label", "learned":
    pictures that were used where the label is new, else None, "guesses": {path: {"label", "confidence", "unknown"}} of
    a model, "failures": sources that did not answer, "skipped"}.
    An empty "odd" means that none stands out.  Raises RetrainError.
    """
    files = list(dict.fromkeys(find_pictures(paths)))
    learned, failures, guesses = None, [], None
    if options.label is None:
        by = "one another"
        embedded, odd, scores = _by_one_another(files)
    else:
        if not files:
            raise _too_few([], [], 1, "Name pictures, or folders that hold some.")
        there = [*find_classes(options.model_dir or default_model_dir()), *class_folders(_data_of(options))]
        name = class_names([options.label], there)[options.label]
        classifier, learned, failures = _have_model(options, name)
        by = "model" if classifier else "pictures of the label"
        if classifier:
            embedded, odd, scores, guesses = _by_model(files, classifier, name)
        else:
            embedded, odd, scores = _by_pictures(files, _data_of(options) / name)
    names = [str(files[row]) for row in embedded.kept]
    return {
        "odd": [names[row] for row in odd],
        "scores": dict(zip(names, map(float, scores), strict=True)),
        "margin": margin(scores, odd),
        "label": options.label,
        "by": by,
        "learned": learned,
        "guesses": dict(zip(names, guesses, strict=True)) if guesses else {},
        "failures": failures,
        "skipped": skipped_rows(embedded),
    }


def _have_model(options, name):
    """Classifier that knows a label, or None where there is nothing to tell it from; pictures learned; failures."""
    model_dir = options.model_dir or default_model_dir()
    if name in find_classes(model_dir):
        return Classifier.load(model_dir), None, []
    from retrain.recipes.adding import add_class  # loads what crawling and training need

    counts, failures, taught = add_class(options.label, name, _data_of(options), model_dir, options)
    return Classifier.load(model_dir) if taught else None, counts[name], failures


def _data_of(options):
    return Path(options.data or default_data())


def _by_one_another(files):
    embedded = _embed(files, _load_backbones(), FEWEST, "With --label NAME one is enough.")
    return embedded, *find_odd(_place(embedded))


def _by_pictures(files, folder):
    """By how far each is from the pictures of one class."""
    backbones = _load_backbones()
    embedded = _embed(files, backbones, 1, "Name pictures, or folders that hold some.")
    scores = strangeness(_place(embedded), _place(_embed(list(walk(folder)), backbones, FEWEST, "Add some.")))
    return embedded, _above(scores, 1 - STRANGE), scores


def _by_model(files, classifier, label):
    embedded = _embed(files, classifier.model.backbones, 1, "Name pictures, or folders that hold some.")
    embeddings = normalize(embedded.embeddings)
    probabilities = classifier.probabilities_of(embeddings)
    number, known_from = classifier.labels.index(label), classifier.model.limits.scores
    scores = doubts(probabilities[:, number], classifier.known_scores(embeddings), known_from)
    believed = classifier.thresholds[number] if classifier.is_multilabel else BELIEVED
    return embedded, _above(scores, 1 - believed), scores, _guesses(classifier, embeddings, probabilities)


def _above(scores, limit):
    """Positions of the scores above a limit, the highest first."""
    return [int(row) for row in np.argsort(-scores, kind="stable") if scores[row] > limit]


def _load_backbones():
    return [load_backbone(name) for name in BACKBONES]


def _place(embedded):
    return place(embedded.embeddings, [generic_mean(find_spec(name)) for name in BACKBONES])


def _guesses(classifier, embeddings, probabilities):
    best, unknown = probabilities.argmax(axis=1), classifier.unknown(embeddings, probabilities)
    return [
        {"label": classifier.labels[number], "confidence": float(row[number]), "unknown": bool(strange)}
        for number, row, strange in zip(best, probabilities, unknown, strict=True)
    ]


def _embed(files, backbones, fewest, hint):
    """Raises RetrainError where fewer than so many files are pictures."""
    with Store(None) as store:
        embedded = embed_files(files, backbones, store)
    if len(embedded.kept) < fewest:
        raise _too_few(embedded.kept, embedded.skipped, fewest, hint)
    return embedded


def _too_few(kept, skipped, fewest, hint):
    refused = "".join(f"; {path}: {reason}" for path, reason in skipped[:3])
    return RetrainError(f"{len(kept)} pictures are here, this needs at least {fewest}{refused}.", hint)
