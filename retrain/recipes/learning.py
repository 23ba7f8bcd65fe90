"""Learn: from the names of classes to the pictures of a folder guessed, with what on each speaks for its label.

    crawl → clean → train → guess → heat maps

Each step is done once: a run that was stopped goes on where it stopped, and a second one only guesses what is new.
"""

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from retrain.classifier import Classifier, find_pictures
from retrain.errors import RetrainError
from retrain.metrics import at_threshold
from retrain.model import find_classes
from retrain.options import LearnOptions, TrainOptions, default_data, default_model_dir
from retrain.progress import track
from retrain.recipes.collecting import collect
from retrain.recipes.explaining import require_apart
from retrain.recipes.names import folder_names, safe_name
from retrain.recipes.results import Results
from retrain.recipes.training import train
from retrain.report import write_learned

log = logging.getLogger("retrain")


def learn(classes, folder, options=LearnOptions()):  # noqa: B008 - frozen
    """Teach a model these classes, unless one knows them already, and guess every picture in a folder.

    classes: their names, in any order.  Of each picture whose guess counts, `results/<label>/` gets the original, the
    heat map over it, and the part that is hot; `results/results.csv` and `results/index.html` tell of all.
    Returns {"classes", "model_dir", "trained": what `train` returns or None, "failures": sources that did not answer,
    "images", "covered", "missed", "labels": {label: covered pictures}, "at_threshold": the scores where the folder has
    folders of these classes, else None, "results": folder, "skipped": [{"path", "reason"}]}.  Raises RetrainError.
    """
    folders = folder_names(sorted(set(classes)))
    names = sorted(folders.values())
    files = list(find_pictures([folder]))
    if len(names) < 2 or not files:
        raise RetrainError(
            *(("one class cannot be told from others.", "Name two or more: -c cat,dog.") if files else
              (f"no files under {folder}.", "Name a folder of pictures."))
        )  # fmt: skip
    require_apart(options.out, [folder])
    model_dir, trained, failures = _have_model(folders, options)
    classifier = Classifier.load(model_dir, options)
    results = Results.open(options.out, folder, model_dir, options)
    rows = list(track(results.fill(classifier, files), "Guessing", len(files)))
    result = {
        "classes": names, "model_dir": str(model_dir), "trained": trained, "failures": failures,
        **_summary(rows, names, options.threshold), "results": str(results.folder),
    }  # fmt: skip
    results.write_table()
    write_learned(result, rows, options.threshold, results.folder / "index.html")
    return result


def _have_model(folders, options):
    """Folder of a model of these classes, what `train` says of it where it is new, and the crawl's failures."""
    names = sorted(folders.values())
    places = [Path(options.model_dir)] if options.model_dir else [default_model_dir(), _place_of(names)]
    for place in places:
        if find_classes(place) == names:
            log.info("The model in %s knows these classes: nothing is trained.", place)
            return place, None, []
    place = places[0] if options.model_dir or not find_classes(places[0]) else places[-1]
    data = Path(options.data or default_data())
    _, failures = collect(folders, data, options)
    training = TrainOptions(only=tuple(names), model_dir=place, quality=options.quality, balance=options.balance)
    return place, train(data, training), failures


def _place_of(names):
    """Where the model of these classes lies if another one has the first place."""
    return default_model_dir().with_name(safe_name("model-" + "+".join(names)))


def _summary(rows, names, threshold):
    read = [row for row in rows if not row["error"]]
    covered = np.array([row["covered"] for row in read], bool)
    known = np.array([row["truth"] is not None for row in read], bool)
    correct = np.array([row["label"] == row["truth"] for row in read], bool)
    labels = Counter(row["label"] for row in read if row["covered"])
    return {
        "images": len(read), "covered": int(covered.sum()), "missed": int((~covered).sum()),
        "labels": {name: labels[name] for name in names},
        "at_threshold": at_threshold(correct[known], covered[known], threshold) if known.any() else None,
        "skipped": [{"path": row["path"], "reason": row["error"]} for row in rows if row["error"]],
    }  # fmt: skip
