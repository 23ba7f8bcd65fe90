import errno
import json
import logging
import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from retrain import TrainOptions, train
from retrain.dataset import TESTING, split
from retrain.errors import RetrainError
from retrain.metrics import wilson_interval
from retrain.model import load_model
from retrain.recipes import preparing, training

PLAIN = TrainOptions(report=False)
PICTURES_A_CLASS = 12  # of the fixture `data`


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, "retrain")
    return caplog


def copy(data, source, name):
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(data / source, data / name)


def head_of(result):
    return Path(result["model_dir"], "head.npz").read_bytes()


def test_result_has_the_keys_of_the_contract(trained, sample, tmp_path):
    result = train(sample, TrainOptions(model_dir=tmp_path / "m"))
    low, high = result["accuracy_interval"]
    assert low < result["accuracy"] < high or result["accuracy"] == high == 1
    assert result["accuracy"] > 0.6
    assert result["classes"] == ["boat", "fish", "house", "sun", "tree"]
    assert (result["images"], result["skipped"], result["quality"]) == (120, [], "fast")
    assert (result["backbone"], result["model_dir"]) == ("efficientnet-lite0", str(tmp_path / "m"))
    assert result["accuracy_from"] == "test"
    assert result["seconds"] > 0
    right = round(result["accuracy"] * result["test_images"])
    assert result["accuracy_interval"] == list(wilson_interval(right, result["test_images"]))
    json.dumps(result)


def test_model_says_where_it_comes_from(trained):
    info = load_model(trained / "model").info
    assert info["counts"] == dict.fromkeys(["boat", "fish", "house", "sun", "tree"], 24)
    assert info["metrics"]["accuracy"] >= info["metrics"]["accuracy_interval"][0] > 0
    assert {"python", "numpy", "pillow", "scikit-learn"} <= set(info["versions"])
    assert len(info["data_sha256"]) == 64


def test_pictures_kept_back_are_not_learned_from(data, monkeypatch):
    learned = []

    def spy(embeddings, labels, *others, real=training.fit_head):
        learned.append(len(labels))
        return real(embeddings, labels, *others)

    monkeypatch.setattr(training, "fit_head", spy)
    result = train(data, PLAIN)
    assert result["test_images"] > 0
    assert learned == [24 - result["test_images"]]


def test_same_pictures_anywhere_under_any_name_give_the_same_head(data, tmp_path):
    expected = head_of(train(data, PLAIN))
    other = tmp_path / "other"
    for number, path in enumerate(sorted(data.glob("*/*"), reverse=True)):
        (other / path.parent.name / "deeper").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / path.parent.name / "deeper" / f"{number}.dat")
    assert head_of(train(other, replace(PLAIN, model_dir=tmp_path / "elsewhere" / "model"))) == expected


def test_second_training_computes_nothing(data):
    first, second = train(data, PLAIN), train(data, PLAIN)
    assert (first["computed"], second["computed"]) == (24, 0)
    assert {key: first[key] for key in ("accuracy", "test_images")} == {
        key: second[key] for key in ("accuracy", "test_images")
    }


def test_good_uses_two_backbones(data):
    result = train(data, replace(PLAIN, quality="good"))
    assert result["backbone"] == "efficientnet-lite0+efficientnet-lite1"
    assert load_model(result["model_dir"]).head.weights.shape == (2, 2560)


def test_backbone_overrides_quality(data):
    assert train(data, replace(PLAIN, backbone="efficientnet-lite2"))["backbone"] == "efficientnet-lite2"


def test_without_a_test_share_all_is_learned_and_cross_validated(data):
    result = train(data, replace(PLAIN, test_share=0.0))
    assert (result["test_images"], result["accuracy_from"]) == (0, "cross-validation")
    assert 0.5 < result["accuracy"] <= 1


def test_only_trains_on_the_classes_named(data):
    copy(data, "fish/fish-000.jpg", "third/1.jpg")
    assert train(data, replace(PLAIN, only=("tree", "fish")))["classes"] == ["fish", "tree"]


def test_train_and_test_layout_is_measured_on_its_test(data):
    for name in ("fish", "tree"):
        (data / "train").mkdir(exist_ok=True)
        (data / name).rename(data / "train" / name)
        for number in range(3):
            (data / "test" / name).mkdir(parents=True, exist_ok=True)
            (data / "train" / name / f"{name}-00{number}.jpg").rename(data / "test" / name / f"{number}.jpg")
    result = train(data, PLAIN)
    assert (result["test_images"], result["images"]) == (6, 24)


def test_picture_in_train_and_test_is_warned_of(data, messages):
    for name in ("fish", "tree"):
        copy(data, f"{name}/{name}-000.jpg", f"test/{name}/1.jpg")
        (data / "train").mkdir(exist_ok=True)
        (data / name).rename(data / "train" / name)
    train(data, PLAIN)
    assert "2 picture(s) of test/ have a copy in train/" in messages.text


def test_class_in_test_only_is_an_error_with_a_hint(data):
    copy(data, "fish/fish-000.jpg", "test/fish/1.jpg")
    copy(data, "fish/fish-001.jpg", "test/crab/1.jpg")
    (data / "train").mkdir()
    for name in ("fish", "tree"):
        (data / name).rename(data / "train" / name)
    with pytest.raises(RetrainError, match="crab") as caught:
        train(data, PLAIN)
    assert caught.value.hint


def test_bad_files_are_listed_and_left_out(data):
    (data / "fish" / "text.jpg").write_text("words")
    (data / "tree" / "empty.jpg").touch()
    os.mkfifo(data / "tree" / "pipe.jpg")
    result = train(data, PLAIN)
    assert result["images"] == 24
    assert {Path(row["path"]).name: row["reason"].split()[0] for row in result["skipped"]} == {
        "text.jpg": "not_an_image",
        "empty.jpg": "empty",
        "pipe.jpg": "unreadable",
    }


def test_class_of_bad_files_alone_is_left_out(data, messages):
    (data / "notes").mkdir()
    (data / "notes" / "a.txt").write_text("words")
    assert train(data, PLAIN)["classes"] == ["fish", "tree"]
    assert "class notes holds no picture" in messages.text


def test_no_picture_at_all_says_what_was_looked_at(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("words" if "1" in name else "")
    with pytest.raises(RetrainError, match=r"3 files looked at, all refused: 2 empty, 1 not_an_image") as caught:
        train(tmp_path / "data", PLAIN)
    assert caught.value.hint


@pytest.mark.parametrize("counts", [(1, 1), (1, 2), (2, 2), (1, 12), (3, 3), (2, 12)])
def test_few_pictures_are_trained_all_the_same(data, counts):
    for name, count in zip(("fish", "tree"), counts, strict=True):
        for path in sorted((data / name).iterdir())[count:]:
            path.unlink()
    result = train(data, PLAIN)
    assert result["images"] == sum(counts)
    assert result["accuracy"] is None or 0 <= result["accuracy"] <= 1
    assert (result["test_images"] > 0) == (max(counts) >= 3)


def test_class_of_copies_of_one_picture_is_trained(data):
    for path in (data / "fish").iterdir():
        if path.name != "fish-000.jpg":
            shutil.copy(data / "fish" / "fish-000.jpg", path)
    assert train(data, PLAIN)["images"] == 24


def test_class_of_another_class_s_pictures_is_trained(data, messages):
    copy(data, "fish/fish-000.jpg", "whale/1.jpg")
    assert train(data, replace(PLAIN, only=("fish", "whale")))["classes"] == ["fish", "whale"]
    assert "1 picture(s) lie in more than one class" in messages.text


def test_weights_of_classes_are_told_and_even_out(data):
    for path in sorted((data / "fish").iterdir())[6:]:
        path.unlink()
    result = train(data, replace(PLAIN, test_share=0.0))
    assert (result["balance"], result["left_out"]) == ("weight", 0)
    assert result["class_weights"] == {"fish": 1.5, "tree": 0.75}


@pytest.mark.parametrize("balance", ["weight", "cut", "none"])
def test_balance_is_what_the_head_is_fitted_by(data, monkeypatch, balance):
    fitted = []

    def spy(*arguments, real=training.fit_head):
        fitted.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(training, "fit_head", spy)
    (data / "fish" / "fish-000.jpg").unlink()
    result = train(data, replace(PLAIN, balance=balance))
    assert fitted == [balance == "weight"]
    assert (result["class_weights"] is not None) == (balance == "weight")
    assert (result["images"], result["left_out"]) == ((22, 1) if balance == "cut" else (23, 0))
    assert load_model(result["model_dir"]).info["left_out"] == result["left_out"]


HOSTILE = ["new\nline", os.fsdecode(b"caf\xe9"), "🌻", "-x", "<b>&\"'"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_class_names_come_back_true(data, name):
    (data / "fish").rename(data / name)
    result = train(data)
    assert name in load_model(result["model_dir"]).classes
    page = Path(result["model_dir"], "report.html").read_bytes()
    assert b"<b>&" not in page


def test_report_is_written_unless_told_not_to(data, model_dir):
    train(data)
    assert (model_dir / "report.html").exists()
    train(data, PLAIN)
    assert not (model_dir / "report.html").exists()


def labels_file(model_dir):
    return (Path(model_dir).parent / "retrained_labels.txt").read_text().splitlines()


def test_old_labels_lie_beside_the_model(data, model_dir):
    (data / "fish").rename(data / "Big Fish (1)")
    train(data, PLAIN)
    assert labels_file(model_dir) == ["big fish 1 ", "tree"]


def test_old_labels_tell_every_class_apart(data, model_dir):
    (data / "fish").rename(data / "タンポポ")
    (data / "tree").rename(data / "🌻")
    copy(data, "🌻/tree-000.jpg", "A.b/1.jpg")
    copy(data, "🌻/tree-001.jpg", "a b/1.jpg")
    train(data, PLAIN)
    labels = labels_file(model_dir)
    assert len(labels) == len(set(labels)) == 4
    assert all(label.strip() for label in labels)


def test_old_labels_that_cannot_be_written_are_a_message_not_an_end(data, model_dir, messages):
    (model_dir.parent / "retrained_labels.txt").unlink()
    (model_dir.parent / "retrained_labels.txt").mkdir()
    assert train(data, PLAIN)["images"] == 24
    assert "retrained_labels.txt cannot be written" in messages.text
    assert sorted(path.name for path in model_dir.parent.iterdir()) == [
        "bottlenecks.sqlite",
        "model",
        "retrained_labels.txt",
    ]


def test_test_pictures_are_those_of_the_split(data):
    result = train(data, PLAIN)
    digests = [training.hashlib.sha256(path.read_bytes()).digest() for path in sorted(data.glob("*/*"))]
    assert result["test_images"] == Counter(split([0] * 12 + [1] * 12, digests))[TESTING]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_keeps_the_old_model(data, model_dir, monkeypatch):
    before = {path: path.read_bytes() for path in model_dir.iterdir()}
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RetrainError, match="No space left on device") as caught:
        train(data, PLAIN)
    assert caught.value.hint
    assert {path: path.read_bytes() for path in model_dir.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (replace(PLAIN, quality="perfect"), "no quality 'perfect'"),
        (replace(PLAIN, backbone="efficientnet-lite9"), "no backbone named 'efficientnet-lite9'"),
        (replace(PLAIN, backbone="efficientnet-lite0+"), "no backbone named ''"),
        (replace(PLAIN, only=("wolf",)), "no class wolf"),
        (replace(PLAIN, model_dir="/dev/null/model"), "cannot write to /dev/null/model"),
    ],
)
def test_bad_option_is_an_error_with_a_hint(data, options, words):
    with pytest.raises(RetrainError, match=words) as caught:
        train(data, options)
    assert caught.value.hint


def test_unwritable_place_is_found_before_any_work(data, monkeypatch):
    monkeypatch.setattr(preparing, "embed_files", None)
    with pytest.raises(RetrainError, match="cannot write"):
        train(data, replace(PLAIN, model_dir="/proc/model"))


def test_folder_that_is_no_model_is_refused_before_any_work(data, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "embed_files", None)
    with pytest.raises(RetrainError, match="holds no model"):
        train(data, replace(PLAIN, model_dir=data))


def test_current_folder_can_be_the_model(data, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for _ in range(2):
        train(data, replace(PLAIN, model_dir="."))
        monkeypatch.chdir(here)
        assert load_model(here).classes == ["fish", "tree"]


def test_missing_scikit_learn_is_told_before_any_work(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(RetrainError, match="scikit-learn"):
        train(data, PLAIN)
    assert not Path(os.environ["TF_FILES"]).exists()
