"""Any file, any folder: broken files, bombs, and names and entries that no ordinary folder holds."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from random import Random

import numpy as np
import pytest
from corruptions import BOMBS, write_corruptions
from PIL import Image

from retrain import Classifier, EvaluateOptions, SortOptions, TrainOptions, evaluate, sort_dir, train
from retrain.backbones.runner import Backbone
from retrain.dataset import walk
from retrain.images import REASONS
from retrain.recipes.sampling import draw

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning:PIL")]

COUNT = 2_000
GIGABYTE = 1_000_000_000

# In a process of its own, because its peak of memory is asked for: {path: reason or "picture"}, and that peak.
DECODE_ALL = """
import json, os, resource, sys
from pathlib import Path
from retrain import sandbox
from retrain.dataset import walk
from retrain.images import ImageError, decode, read
from retrain.parallel import ordered_map

def outcome(path):
    try:
        decode(read(path))
        return "picture"
    except ImageError as error:
        return error.reason if "crashed" not in str(error) else "a crash"

paths = list(walk(Path(sys.argv[1])))
outcomes = {str(path): found for path, found in zip(paths, ordered_map(outcome, paths), strict=True)}
sandbox._pool.end()
unit = 1 if sys.platform == "darwin" else 1024
peak = sum(resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
json.dump([outcomes, peak], sys.stdout)
"""


def decode_all(folder):
    # By a shell, because a process counts the memory of the one that started it as its own.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", DECODE_ALL, folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=600, check=True)
    outcomes, peak = json.loads(done.stdout)
    print(dict(Counter(outcomes.values())), f"peak {peak / 1e6:.0f} MB")
    return outcomes, peak


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A data set of two classes, one of them broken files, and the number of files in that one."""
    folder = tmp_path_factory.mktemp("corruptions")
    return folder, write_corruptions(folder / "broken", COUNT)


@pytest.fixture(scope="module")
def data(broken, sample):
    folder, count = broken
    if not (folder / "tree").exists():
        (folder / "tree").symlink_to(sample / "tree")
    return folder, count + len(list((sample / "tree").iterdir()))


def test_corruptions_are_all_accounted_for_and_alike_at_every_run(broken):
    folder, count = broken
    outcomes, peak = decode_all(folder)
    assert len(outcomes) == count
    assert set(outcomes.values()) == {"picture", *REASONS} - {"too_small", "too_slow", "no_face", "several_faces"}
    assert peak < GIGABYTE
    assert decode_all(folder)[0] == outcomes


def test_bombs_take_little_memory_and_end_nothing(tmp_path):
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    outcomes, peak = decode_all(tmp_path)
    assert len(outcomes) == len(BOMBS)
    assert not {"unreadable", "a crash"} & set(outcomes.values())
    assert peak < GIGABYTE


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    """What training on the data said, and the model's folder."""
    folder = tmp_path_factory.mktemp("model") / "model"
    return train(data[0], TrainOptions(model_dir=folder)), folder


def test_train_and_evaluate_account_for_every_file(data, model):
    folder, count = data
    evaluated = evaluate(folder, EvaluateOptions(model_dir=model[1]))
    for result in (model[0], evaluated):
        paths = [row["path"] for row in result["skipped"]]
        assert len(set(paths)) == len(paths)
        assert result["images"] + len(paths) == count
        assert {row["reason"].partition(" ")[0] for row in result["skipped"]} <= set(REASONS)


def test_guess_and_sort_account_for_every_file(data, model, tmp_path):
    folder, count = data
    guesses = list(Classifier.load(model[1]).guess([folder]))
    paths = [guess.path for guess in guesses]
    assert len(set(paths)) == len(paths) == count
    failed = {guess.path for guess in guesses if guess.error}
    assert failed == {row["path"] for row in model[0]["skipped"]}

    classifier = Classifier.load(model[1])
    result = sort_dir(folder, tmp_path / "sorted", SortOptions(dry_run=True), classifier)
    assert sum(result["sorted"].values()) + result["unknown"] + result["ambiguous"] + result["errors"] == count
    assert result["errors"] == len(failed)


def drawn_photos(folder, request):
    """The same pictures in all orientations and several formats."""
    for label in ("sun", "tree"):
        (folder / label).mkdir(parents=True)
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            for kind in ("jpeg", "png", "webp", "tiff", "avif"):
                image = draw(label, Random(f"{label}{orientation}{kind}"), 600).crop((0, 0, 600, 520))
                image.save(folder / label / f"{orientation}.{kind}", exif=exif)


def real_photos(folder, request):
    """The two scenes of data/exif, each in all orientations."""
    for path in (request.getfixturevalue("real_data") / "exif").glob("*.jpg"):
        (folder / path.name.partition("_")[0]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name.partition("_")[0])


@pytest.mark.parametrize("photos", [drawn_photos, pytest.param(real_photos, marks=pytest.mark.real)])
def test_every_command_sees_the_same_tensors(request, photos, tmp_path, monkeypatch):
    folder, model_dir, seen = tmp_path / "photos", tmp_path / "tf_files" / "model", []
    photos(folder, request)
    embed = Backbone.embed

    def note(backbone, images):
        seen.append(np.array(images).tobytes())
        return embed(backbone, images)

    def tensors(command):
        seen.clear()
        (model_dir.parent / "bottlenecks.sqlite").unlink(missing_ok=True)
        command()
        return sorted(seen)

    monkeypatch.setattr(Backbone, "embed", note)
    trained = tensors(lambda: train(folder, TrainOptions(model_dir=model_dir, report=False)))
    assert len(trained) == len(list(walk(folder)))
    assert tensors(lambda: evaluate(folder, EvaluateOptions(model_dir=model_dir))) == trained
    assert tensors(lambda: list(Classifier.load(model_dir).guess([folder]))) == trained
    assert tensors(lambda: sort_dir(folder, tmp_path / "sorted", SortOptions(model_dir=model_dir))) == trained
