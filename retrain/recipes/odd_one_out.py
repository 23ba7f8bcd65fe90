"""Find the odd one out: the pictures that are not what a label says, or that do not belong with the others."""

import numpy as np

from retrain.backbones import generic_mean, load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.classifier import Classifier, find_pictures
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.odd import BELIEVED, FEWEST, doubts, find_odd, margin, place
from retrain.options import QUALITIES, OddOptions
from retrain.recipes.training import skipped_rows

BACKBONES = QUALITIES["good"].split("+")  # side by side they tell more, and a set is small


def find_odd_one_out(paths, options=OddOptions()):  # noqa: B008 - frozen
    """Which of the pictures in files and folders do not belong: by a label that the model knows, else by one another.

    Returns what `odd --json` prints: {"odd": paths, the oddest first, "scores": {path: how odd, 0 and more}, "margin":
    between the odd ones and the others, "label", "guesses": {path: {"label", "confidence", "unknown"}}, "skipped"}.
    An empty "odd" means that none stands out; without a label there are no guesses.  Raises RetrainError.
    """
    files = list(dict.fromkeys(find_pictures(paths)))
    if options.label is None:
        embedded, odd, scores = _by_one_another(files)
        guesses = {}
    else:
        embedded, odd, scores, guesses = _by_label(files, options)
    names = [str(files[row]) for row in embedded.kept]
    return {
        "odd": [names[row] for row in odd],
        "scores": dict(zip(names, map(float, scores), strict=True)),
        "margin": margin(scores, odd),
        "label": options.label,
        "guesses": dict(zip(names, guesses, strict=True)) if guesses else {},
        "skipped": skipped_rows(embedded),
    }


def _by_one_another(files):
    backbones = [load_backbone(name) for name in BACKBONES]
    embedded = _embed(files, backbones, FEWEST, "With --label NAME one is enough, if a trained model knows NAME.")
    rows = place(embedded.embeddings, [generic_mean(backbone.spec) for backbone in backbones])
    return embedded, *find_odd(rows)


def _by_label(files, options):
    classifier = Classifier.load(options.model_dir)
    classifier.require_label(options.label, "Train a model with a folder of that name, or leave the label out.")
    embedded = _embed(files, classifier.model.backbones, 1, "Name pictures, or folders that hold some.")
    embeddings = normalize(embedded.embeddings)
    probabilities = classifier.probabilities_of(embeddings)
    of_label = probabilities[:, classifier.labels.index(options.label)]
    scores = doubts(of_label, classifier.known_scores(embeddings), classifier.model.limits.scores)
    odd = [int(row) for row in np.argsort(-scores, kind="stable") if scores[row] > 1 - BELIEVED]
    return embedded, odd, scores, _guesses(classifier, embeddings, probabilities)


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
        refused = "".join(f"; {path}: {reason}" for path, reason in embedded.skipped[:3])
        raise RetrainError(f"{len(embedded.kept)} pictures are here, this needs at least {fewest}{refused}.", hint)
    return embedded
