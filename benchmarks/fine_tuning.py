"""What fine-tuning adds to frozen networks, and how long an epoch takes that computes more or less of them anew."""

import os
import shutil
from pathlib import Path

import numpy as np

from benchmarks.common import HAS_TENSORFLOW, seconds_of
from retrain import TrainOptions, draw_sample, train
from retrain.backbones import find_spec
from retrain.dataset import find_dataset, find_parts
from retrain.head import Head, make_folds
from retrain.metrics import wilson_interval
from retrain.options import SampleOptions

FOLDS = 5
PICTURES = 256  # of an epoch that is timed


def measure(bench):
    if not HAS_TENSORFLOW:
        return {"rows": [], "ratios": {"left out, needs": "TensorFlow"}}
    rows = [
        {"what": f"{name}, {quality}"} | score(dataset, bench.fresh(), quality)
        for name, dataset in data_sets(bench)
        for quality in ("fast", "good", "best")
    ]
    return {"rows": rows, "ratios": epochs()}


def data_sets(bench):
    """Yield (name, Dataset)."""
    whole = bench.photos.parent if find_parts(bench.photos.parent) else bench.photos
    yield whole.name, find_dataset(whole)
    for name in ("superheroes", "faces/train"):
        folder = Path(os.environ.get("RETRAIN_TEST_DATA", "")) / name
        if folder.is_dir() and folder != whole:
            yield name, find_dataset(folder)
    for seed in range(3):
        folder = bench.fresh()
        draw_sample(folder, SampleOptions(per_class=40, seed=seed))
        yield f"drawn {seed}", find_dataset(folder)


def score(dataset, folder, quality):
    """Accuracy over all pictures, each judged by a model that has not seen it, and the seconds of a training."""
    folds = make_folds(np.array(dataset.labels), [path.read_bytes()[-64:] for path in dataset.paths], 0, FOLDS)
    right, seconds, kept = 0, [], 0
    for fold in np.unique(folds[folds >= 0]):
        data = folder / str(fold)
        for row, path in enumerate(dataset.paths):
            part = "test" if folds[row] == fold else "train"
            to = data / part / dataset.classes[dataset.labels[row]] / f"{row}{path.suffix}"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
        result = train(data, TrainOptions(quality=quality, model_dir=folder / f"files{fold}" / "model"))
        right += round(result["accuracy"] * result["test_images"])
        seconds.append(result["seconds"])
        kept += bool(result["fine_tuning"] and result["fine_tuning"]["kept"])
        shutil.rmtree(data)
    judged = int(np.sum(folds >= 0))
    low, high = wilson_interval(right, judged)
    told = {"pictures": judged, "%": round(100 * right / judged, 1), "95 %": f"{100 * low:.1f}-{100 * high:.1f}"}
    told |= {"s": round(float(np.median(seconds)))}
    return told | {"kept": f"{kept} of {len(seconds)}" if quality == "best" else ""}


def epochs():
    """Seconds of one epoch: of stored activations, with the lower half computed each time, of the whole network."""
    import keras

    from retrain.tf.fine_tuning import BATCH, Tuner

    tuner = Tuner(find_spec("efficientnet-lite0-float32"))
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (PICTURES, 224, 224, 3), np.uint8)
    targets = keras.utils.to_categorical(np.arange(PICTURES) % 5, 5)
    head = Head(random.normal(size=(5, 1280)).astype(np.float32), np.zeros(5, np.float32))
    upper = tuner.with_head(head)
    tuner.compile(upper, PICTURES // BATCH)
    whole = keras.Sequential([keras.Input((224, 224, 3)), tuner.lower, tuner.upper, keras.layers.Dense(5)])
    tuner.compile(whole, PICTURES // BATCH)
    activations = tuner.activate(pictures)

    def epoch(network, images):
        return seconds_of(lambda: network.fit(images, targets, batch_size=BATCH, verbose=0))

    epoch(upper, activations), epoch(whole, pictures)  # TensorFlow traces at the first
    stored = epoch(upper, activations)
    computed = seconds_of(lambda: tuner.activate(pictures)) + stored
    return {
        f"seconds of {PICTURES} pictures, stored activations": round(stored, 1),
        "lower half computed anew / stored": round(computed / stored, 2),
        "whole network learning / stored": round(epoch(whole, pictures) / stored, 2),
    }
