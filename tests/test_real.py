"""What the README promises, on real photos."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import together
from retrain import (
    Classifier,
    EvaluateOptions,
    LearnOptions,
    OddOptions,
    TrainOptions,
    evaluate,
    find_odd_one_out,
    learn,
    train,
)
from retrain.backbones import find_spec, generic_mean, load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import find_dataset
from retrain.head import normalize, search_C
from retrain.images import decode, read
from retrain.metrics import auroc
from retrain.odd import doubts, find_odd, place
from retrain.recipes.odd_one_out import BACKBONES

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not os.environ.get("RETRAIN_TEST_DATA"), reason="RETRAIN_TEST_DATA names no real pictures"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def flowers(real_data, folder):
    """Accuracy on flowers/test of a model of each quality trained on flowers/train."""

    def accuracy(quality):
        train(real_data / "flowers" / "train", TrainOptions(model_dir=folder / quality, quality=quality))
        return evaluate(real_data / "flowers" / "test", EvaluateOptions(model_dir=folder / quality))["accuracy"]

    return {quality: accuracy(quality) for quality in ("fast", "good")}


def test_flowers_are_told_apart(flowers):
    assert flowers["fast"] >= 0.875


def test_good_is_no_worse_than_fast(flowers):
    assert flowers["good"] >= flowers["fast"] - 0.01


def test_flowers_are_told_apart_in_five_folds(real_data, flowers, folder):
    dataset = find_dataset(real_data / "flowers")
    with Store(folder / "bottlenecks.sqlite") as store:
        embedded = embed_files(dataset.paths, [load_backbone("efficientnet-lite0")], store)
    labels = np.array(dataset.labels)
    search = search_C(normalize(embedded.embeddings), labels, embedded.digests, len(dataset.classes))
    assert len(search.rows) == len(dataset) == 1_000
    assert np.mean(search.logits.argmax(axis=1) == labels) >= 0.89


def test_superheroes_are_told_apart(real_data, folder):
    photos, model_dir = real_data / "superheroes", folder / "superheroes"
    train(photos / "train", TrainOptions(model_dir=model_dir))
    guesses = {Path(guess.path): guess.label for guess in Classifier.load(model_dir).guess([photos / "test"])}
    assert {path.name: label for path, label in guesses.items() if label != path.parent.name} == {}
    assert len(guesses) == 24
    assert {guesses[photos / "test" / "elsa" / name] for name in ("imagesfg.jpg", "imagesff.jpg")} == {"elsa"}
    stranger, *_ = Classifier.load(model_dir).guess([photos / "unknown"])
    assert stranger.unknown


@pytest.mark.parametrize(("share", "told", "lower"), [(0.33, 0.88, 0.9), (0, 0.6, 0.5)])
def test_two_people_in_one_photo_both_get_a_high_score(real_data, tmp_path, share, told, lower):
    result, pairs, alone = together.learn(real_data / "superheroes", tmp_path, share)
    assert (len(pairs), len(alone)) == (9 * 15, 9 + 15)
    assert np.mean([sorted(guess.labels) == labels for guess, labels in pairs]) >= told
    assert np.median([min(guess.scores.values()) for guess, _ in pairs]) >= lower
    assert np.mean([guess.labels == labels for guess, labels in alone]) >= 0.8
    assert result["mean_average_precision"] >= 0.98


def test_photos_of_other_things_are_unknown(real_data, flowers, folder):
    classifier = Classifier.load(folder / "fast")
    known, strange = (
        classifier.known_scores(np.concatenate([classifier.embed(decode(read(path))) for path in sorted(paths)]))
        for paths in ((real_data / "flowers" / "test").rglob("*.jpg"), (real_data / "imagenet").glob("*.jpg"))
    )
    assert auroc(known, strange) >= 0.97


@pytest.fixture(scope="module")
def strangers(real_data):
    """Photos of other things than flowers that the generic means do not know."""
    return sorted((real_data / "imagenet").glob("*.jpg"))[1::2]


@pytest.fixture(scope="module")
def sets_of_six(real_data, strangers, folder):
    """Embeddings of flowers/test and of strangers, and function (kind, seed) -> 500 sets of rows, the odd one last."""
    dataset = find_dataset(real_data / "flowers" / "test")
    labels = np.array([*dataset.labels, *[-1] * len(strangers)])
    with Store(folder / "odd.sqlite") as store:
        parts = embed_files([*dataset.paths, *strangers], [load_backbone(name) for name in BACKBONES], store).embeddings

    def draw(kind, seed):
        generator = np.random.default_rng(seed)
        for _ in range(500):
            alike = generator.choice(np.flatnonzero(labels == generator.integers(5)), 6, replace=False)
            others = {"far": labels < 0, "near": (labels >= 0) & (labels != labels[alike[0]])}
            odd = alike[5] if kind == "none" else generator.choice(np.flatnonzero(others[kind]))
            yield np.array([*alike[:5], odd])

    return parts, labels, draw


def test_a_stranger_among_flowers_is_odd_without_a_model(sets_of_six):
    parts, _, draw = sets_of_six
    rows = place(parts, [generic_mean(find_spec(name)) for name in BACKBONES])
    found = [find_odd(rows[six]) for six in draw("far", 0)]
    assert np.mean([scores.argmax() == 5 for _, scores in found]) >= 0.97
    assert np.mean([odd[:1] == [5] for odd, _ in found]) >= 0.88
    assert np.mean([bool(find_odd(rows[six])[0]) for six in draw("none", 1)]) <= 0.1


def test_another_flower_is_odd_to_a_model_that_knows_them(sets_of_six, flowers, folder):
    parts, labels, draw = sets_of_six
    classifier = Classifier.load(folder / "fast")
    embeddings = normalize(parts[:1])
    confidences, known = classifier.probabilities_of(embeddings), classifier.known_scores(embeddings)
    limits = classifier.model.limits.scores
    first = [doubts(confidences[six, labels[six[0]]], known[six], limits).argmax() == 5 for six in draw("near", 0)]
    assert np.mean(first) >= 0.93


def test_a_stranger_among_daisies_is_named(strangers, real_data):
    daisies = sorted((real_data / "flowers" / "test" / "daisy").iterdir())[:5]
    assert find_odd_one_out([*daisies, strangers[0]])["odd"] == [str(strangers[0])]


def test_limits_hold_on_photos_kept_apart(real_data, flowers, folder):
    options = EvaluateOptions(model_dir=folder / "fast", coverage=0.9, reject_rate=0.05)
    found = evaluate(real_data / "flowers" / "test", options)
    assert found["candidates"]["coverage_interval"][0] <= 0.9 <= found["candidates"]["coverage_interval"][1]
    assert found["learned"] == 0


def test_training_from_nothing_gives_the_same_head_again(real_data, tmp_path):
    def head(name):
        options = TrainOptions(model_dir=tmp_path / name / "model", only=("daisy", "roses"), report=False)
        assert train(real_data / "flowers" / "test", options)["computed"] == 80
        return (tmp_path / name / "model" / "head.npz").read_bytes()

    assert head("one") == head("two")


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_photos_decoded_at_reduced_scale_keep_their_embedding(real_data, monkeypatch, name):
    backbone = load_backbone(name)
    paths = sorted((real_data / "exif").glob("*_1.jpg"))

    def embeddings():
        return normalize([backbone.embed(np.stack([backbone.to_input(decode(read(path))) for path in paths]))])

    reduced = embeddings()
    monkeypatch.setattr("retrain.images.DRAFT_SIDE", 100_000)
    assert (reduced * embeddings()).sum(axis=1).min() > 0.98


def test_names_of_flowers_become_a_model_and_their_photos_are_recognised(
    real_data, open_gallery, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    gallery = open_gallery(real_data / "flowers" / "train")
    options = LearnOptions(sources=("openverse",), limit=60, threshold=0.9)
    first = learn(["roses", "daisy", "sunflowers"], real_data / "flowers" / "test", options)
    assert 150 <= first["trained"]["images"] <= 180
    assert first["at_threshold"]["total_images"] == 120
    assert first["at_threshold"]["threshold_accuracy"] >= 0.95
    assert first["images"] == 200
    assert {name: len(list((tmp_path / "results" / name).iterdir())) for name in first["labels"]} == {
        name: 3 * count for name, count in first["labels"].items()
    }
    asked = len(gallery.asked)
    second = learn(["sunflowers", "roses", "daisy"], real_data / "flowers" / "test", options)
    assert second == first | {"trained": None}
    assert len(gallery.asked) == asked


def test_label_never_seen_is_learned_from_forty_photos(real_data, open_gallery, tmp_path):
    open_gallery(real_data / "flowers" / "train")
    for name in ("daisy", "roses"):
        shutil.copytree(real_data / "flowers" / "train" / name, tmp_path / "tf_files" / "data" / name)
    photos = real_data / "flowers" / "test"
    sunflowers = sorted((photos / "sunflowers").iterdir())[:5]
    rose = min((photos / "roses").iterdir())
    result = find_odd_one_out([*sunflowers, rose], OddOptions(label="sunflowers", sources=("openverse",)))
    assert (result["by"], result["learned"]) == ("model", 40)
    assert max(result["scores"], key=result["scores"].get) == str(rose)
