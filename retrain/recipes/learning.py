"""Learn: from the names of classes to the pictures of a folder guessed, with what on each speaks for its label.

    crawl → clean → train → guess → heat maps

Each step is done once: a run that was stopped goes on where it stopped, and a second one only guesses what is new.
"""

import hashlib
import logging
from collections import Counter
from pathlib import Path

import numpy as np

from retrain.classifier import Classifier, find_pictures
from retrain.dataset import class_folders
from retrain.errors import RetrainError
from retrain.metrics import at_threshold
from retrain.model import find_classes
from retrain.options import LearnOptions, TrainOptions, default_data, default_model_dir
from retrain.progress import track
from retrain.recipes.collecting import collect
from retrain.recipes.explaining import require_apart
from retrain.recipes.judging import count_learned
from retrain.recipes.names import class_names, cut, safe_name
from retrain.recipes.results import PAGE, Results
from retrain.recipes.training import train
from retrain.report import write_learned

log = logging.getLogger("retrain")


def learn(classes, folder, options=LearnOptions()):  # noqa: B008 - frozen
    """Teach a model these classes, unless one knows them already, and guess every picture in a folder.

    classes: their names, in any order.  Of each picture whose guess counts, `results/<label>/` gets the original, the
    heat map over it, and the part that is hot; `results/results.csv` and `results/index.html` tell of all.
    Returns {"classes", "model_dir", "trained": what `train` returns or None, "failures": sources that did not answer,
    "images", "covered", "missed", "labels": {label: covered pictures}, "learned": pictures that the model has learned,
    "at_threshold": the scores where the folder has folders of these classes, else None, "results": folder, "skipped":
    [{"path", "reason"}]}.  Raises RetrainError.
    """
    files = list(find_pictures([folder]))
    if len(set(classes)) < 2 or not files:
        raise RetrainError(
            *(("one class cannot be told from others.", "Name two or more: -c cat,dog.") if files else
              (f"no files under {folder}.", "Name a folder of pictures."))
        )  # fmt: skip
    require_apart(options.out, [folder])
    queries = _name_classes(classes, options)
    model_dir, trained, failures = _have_model(queries, options)
    classifier = Classifier.load(model_dir, options)
    with Results.open(options.out, folder, classifier, model_dir, options) as results:
        rows = list(track(results.fill(files), "Guessing", len(files)))
        result = {
            "classes": classifier.labels, "model_dir": str(model_dir), "trained": trained, "failures": failures,
            **_summary(rows, classifier, options.threshold), "results": str(results.folder),
        }  # fmt: skip
        results.write_table(rows)
        write_learned(result, rows, options.threshold, results.folder / PAGE)
    return result


def _name_classes(classes, options):
    """{class: what to search for}, as a model or a folder calls it already."""
    there = [*find_classes(options.model_dir or default_model_dir()), *class_folders(_data_of(options))]
    return {name: label for label, name in sorted(class_names(set(classes), there).items(), key=lambda row: row[1])}


def _have_model(queries, options):
    """Folder of a model of these classes, what `train` says of it where it is new, and the crawl's failures."""
    names = sorted(queries)
    places = [Path(options.model_dir)] if options.model_dir else [default_model_dir(), _place_of(names)]
    for place in places:
        if find_classes(place) == names:
            log.info("The model in %s knows these classes: nothing is trained. Without it, it is learned anew.", place)
            return place, None, []
    place = next((place for place in places if not find_classes(place)), None)
    if place is None:
        known = ", ".join(find_classes(places[0]))
        raise RetrainError(f"the model in {places[0]} knows other classes: {known}.", "Give --model-dir another place.")
    data = _data_of(options)
    _, failures = collect(queries, data, options)
    training = TrainOptions(only=tuple(names), model_dir=place, quality=options.quality, balance=options.balance)
    return place, train(data, training), failures


def _data_of(options):
    return Path(options.data or default_data())


def _place_of(names):
    """Where the model of these classes lies if another one has the first place."""
    mark = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:8]
    return default_model_dir().with_name(cut(safe_name("model-" + "+".join(names)), 60) + f"-{mark}")


def _summary(rows, classifier, threshold):
    read = [row for row in rows if not row["error"]]
    covered = np.array([row["covered"] for row in read], bool)
    known = np.array([row["truth"] is not None for row in read], bool)
    correct = np.array([row["label"] == row["truth"] for row in read], bool)
    labels = Counter(row["label"] for row in read if row["covered"])
    return {
        "images": len(read), "covered": int(covered.sum()), "missed": int((~covered).sum()),
        "labels": {name: labels[name] for name in classifier.labels},
        "learned": count_learned([bytes.fromhex(row["sha256"]) for row in read], classifier.model.learned),
        "at_threshold": at_threshold(correct[known], covered[known], threshold) if known.any() else None,
        "skipped": [{"path": row["path"], "reason": row["error"]} for row in rows if row["error"]],
    }  # fmt: skip
