import json
import logging
import os
import shutil
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_sorting import die_at, no_links, no_links_between  # noqa: F401 - fixtures

from retrain.checks import CHECKS, wrong_label
from retrain.dataset import find_dataset
from retrain.errors import RetrainError
from retrain.options import CleanOptions, tf_files
from retrain.recipes import cleaning
from retrain.recipes.cleaning import clean, undo_clean

PICTURES_A_CLASS = 8
LIGHT = ("unreadable", "identical", "blank", "tiny", "dark", "blurred", "odd_shape")  # no network runs


def state(folder):
    """Everything below a folder: contents and modes of files, times of files and folders."""
    return {
        os.fsencode(path.relative_to(folder)): (
            path.is_file() and path.read_bytes(),
            path.lstat().st_mtime_ns,
            path.lstat().st_mode,
        )
        for path in folder.rglob("*")
    }


def found(result, check):
    """The files of each finding of a check, as names below the data."""
    return [set(finding["paths"]) for finding in result["findings"] if finding["check"] == check]


def names(finding):
    return [path.rpartition("/")[2] for path in finding["paths"]]


def noise(seed, size=(120, 90)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def spoilt(tmp_path):
    """Two classes of sound pictures, and one file for each of the checks that need no network; one has a sidecar."""
    data = tmp_path / "data"
    for number in range(3):
        for seed, label in enumerate(["fish", "tree"]):
            save(noise(10 * seed + number + 10), data / label / f"{label}-{number:03}.jpg")
    save(Image.new("RGB", (90, 90), "gray"), data / "fish" / "blank.png")
    save(noise(1, (16, 16)), data / "fish" / "tiny.png")
    save(noise(2).point(lambda value: value / 8), data / "fish" / "dark.png")
    save(noise(3, (3, 3)).resize((200, 150)), data / "fish" / "blurred.png")
    save(noise(4, (500, 50)), data / "tree" / "long.png")
    shutil.copy2(data / "tree" / "tree-000.jpg", data / "tree" / "copy of tree-000.jpg")
    (data / "tree" / "copy of tree-000.xmp").write_text("about the copy")
    (data / "tree" / "deep" / "deeper").mkdir(parents=True)
    (data / "tree" / "deep" / "half.jpg").write_bytes((data / "fish" / "fish-000.jpg").read_bytes()[:900])
    (data / "tree" / "empty folder").mkdir()
    return data


def test_each_check_finds_its_picture_with_value_and_limit(spoilt):
    result = clean(spoilt, CleanOptions(checks=LIGHT))
    by_check = {finding["check"]: finding for finding in result["findings"]}
    assert {check: names(finding) for check, finding in by_check.items()} == {
        "unreadable": ["half.jpg"],
        "identical": ["copy of tree-000.jpg", "tree-000.jpg"],
        "blank": ["blank.png"],
        "tiny": ["tiny.png"],
        "dark": ["dark.png"],
        "blurred": ["blurred.png"],
        "odd_shape": ["long.png"],
    }
    assert result["counts"] == dict.fromkeys(sorted(LIGHT, key=list(CHECKS).index), 1)
    assert "truncated" in by_check["unreadable"]["reason"]
    assert all("limit" in by_check[check]["reason"] for check in LIGHT[2:])
    assert all(0 < finding["score"] <= 1 for finding in result["findings"])


def test_without_apply_nothing_is_changed(spoilt):
    before = state(spoilt)
    result = clean(spoilt)
    assert state(spoilt) == before
    assert (result["moved"], result["quarantine"], result["left"]) == (0, None, [])
    assert not (tf_files() / "quarantine").exists()


def test_plan_is_kept(spoilt):
    result = clean(spoilt, CleanOptions(checks=LIGHT))
    (kept,) = [json.loads(path.read_text()) for path in (tf_files() / "clean").glob("*/plan.json")]
    assert kept == {key: result[key] for key in ("findings", "counts")}
    assert set(kept["findings"][0]) == {"check", "paths", "score", "reason", "action", "keep"}


def test_only_what_is_sure_goes_unless_a_check_is_named(spoilt):
    actions = {finding["check"]: finding["action"] for finding in clean(spoilt)["findings"]}
    sure = {"unreadable", "identical", "blank", "tiny"}
    assert {check for check, action in actions.items() if action == "quarantine"} == sure
    (finding,) = clean(spoilt, CleanOptions(checks=("dark",)))["findings"]
    assert finding["action"] == "quarantine"


def test_apply_moves_and_undo_restores_bit_for_bit(spoilt):
    for path in spoilt.rglob("*"):
        os.utime(path, ns=(10**18, 10**18 + len(path.name)))
    (spoilt / "fish" / "tiny.png").chmod(0o640)
    before = state(spoilt)
    result = clean(spoilt, CleanOptions(checks=LIGHT, apply=True))
    assert (result["moved"], result["left"]) == (8, [])  # with the sidecar
    quarantine = state(tf_files() / "quarantine")
    moved = {name.partition(b"/")[2] for name, (content, *_) in quarantine.items() if content}
    assert {b"fish/blank.png", b"tree/copy of tree-000.xmp", b"tree/deep/half.jpg"} <= moved
    assert before.keys() - state(spoilt).keys() == moved - {b"retrain-clean.jsonl", b""}
    assert undo_clean(spoilt) == {"restored": 8, "left": []}
    assert state(spoilt) == before
    assert not (tf_files() / "quarantine").exists() or not list((tf_files() / "quarantine").iterdir())


def test_manifest_tells_where_from_and_why(spoilt):
    result = clean(spoilt, CleanOptions(checks=("tiny",), apply=True))
    lines = map(json.loads, Path(result["quarantine"], "retrain-clean.jsonl").read_text().splitlines())
    (entry,) = [row for line in lines for row in line.get("files", [])]
    assert (entry["source"], entry["destination"]) == (str(spoilt / "fish" / "tiny.png"), "fish/tiny.png")
    assert entry["reason"] == "tiny: 16 x 16 px (limit 24)"


def test_second_apply_and_second_undo_are_safe(spoilt):
    before = state(spoilt)
    clean(spoilt, CleanOptions(checks=("tiny",), apply=True))
    assert clean(spoilt, CleanOptions(checks=("tiny",), apply=True))["moved"] == 0
    clean(spoilt, CleanOptions(checks=("blank",), apply=True))
    assert undo_clean(spoilt) == {"restored": 2, "left": []}
    assert state(spoilt) == before
    with pytest.raises(RetrainError, match="nothing from"):
        undo_clean(spoilt)


def test_undo_touches_nothing_that_was_edited_since(spoilt):
    result = clean(spoilt, CleanOptions(checks=("tiny", "blank", "dark"), apply=True))
    edited, newer = spoilt / "fish" / "tiny.png", spoilt / "fish" / "blank.png"
    (inside,) = (tf_files() / "quarantine").glob("*/fish/tiny.png")
    inside.write_bytes(b"edited")
    newer.write_bytes(b"newer")
    undone = undo_clean(spoilt)
    assert undone["restored"] == 1
    assert {row["path"] for row in undone["left"]} == {
        f"{result['quarantine']}/fish/{name}" for name in ("tiny.png", "blank.png")
    }
    assert (inside.read_bytes(), newer.read_bytes(), edited.exists()) == (b"edited", b"newer", False)


@pytest.mark.parametrize("where", ["", "no_links_between", "no_links"])
def test_kill_at_any_step_loses_nothing(where, tmp_path, monkeypatch, request):
    if where:
        request.getfixturevalue(where)
    monkeypatch.setattr(cleaning, "BATCH", 1)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    data = tmp_path / "trial"
    options = CleanOptions(checks=("tiny",), apply=True)
    for step in count(1):
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(tf_files() / "quarantine", ignore_errors=True)
        for number in range(2):
            save(noise(number, (8, 8)), data / "a" / f"{number}.png")
        (data / "a" / "0.xmp").write_text("about 0")
        save(noise(0), data / "a" / "good.jpg")
        before = {path: content for path, (content, *_) in state(data).items()}
        clean(data, CleanOptions(checks=("tiny",)))
        killed = die_at(step, lambda: clean(data, options))
        held = Counter(content for content, *_ in [*state(data).values(), *state(tf_files()).values()])
        assert all(held[content] for content in before.values())
        clean(data, options)
        assert not list(data.rglob("*.png"))
        assert undo_clean(data)["left"] == []
        assert {path: content for path, (content, *_) in state(data).items()} == before
        if not killed:
            break
    assert step > 10


def test_quarantine_and_plans_are_never_taken_for_data(spoilt):
    clean(spoilt, CleanOptions(checks=LIGHT, apply=True))
    (tf_files() / "bottlenecks.sqlite").unlink()
    assert find_dataset(tf_files()).paths == []
    assert find_dataset(tf_files() / "quarantine").paths == []


def test_planted_identical_pairs_are_all_found_and_nothing_else(sample, tmp_path):
    data = shutil.copytree(sample, tmp_path / "data")
    classes = sorted(path.name for path in data.iterdir())
    pairs = []
    for number in range(20):
        label, other = classes[number % len(classes)], classes[(number + (number < 5)) % len(classes)]
        original = data / label / f"{label}-{number:03}.jpg"
        pairs.append({str(original), str(shutil.copy(original, data / other / f"planted {number}.jpg"))})
    result = clean(data, CleanOptions(checks=("identical", "two_labels")))
    assert sorted(map(sorted, found(result, "identical"))) == sorted(map(sorted, pairs))
    assert all(pair in found(result, "two_labels") for pair in pairs[:5])
    kept = [finding["keep"] for finding in result["findings"] if finding["check"] == "identical" and finding["keep"]]
    assert len(kept) == 15
    moved = {
        finding["action"] for finding in result["findings"] if finding["check"] == "identical" and not finding["keep"]
    }
    assert moved == {"review"}  # which label is right, the bytes do not tell


def test_near_duplicates_leave_the_largest(data):
    original = data / "tree" / "tree-000.jpg"
    with Image.open(original) as image:
        small = save(image.resize((70, 70)), data / "tree" / "small.jpg")
        flipped = save(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((60, 60)), data / "tree" / "flipped.jpg")
    result = clean(data, CleanOptions(checks=("near_duplicate",)))
    (finding,) = [finding for finding in result["findings"] if str(small) in finding["paths"]]
    assert {str(original), str(small), str(flipped)} <= set(finding["paths"])
    assert finding["keep"] not in (str(small), str(flipped))


def test_copy_under_another_label_is_reported_with_both(data):
    with Image.open(data / "tree" / "tree-000.jpg") as image:
        copy = save(image.resize((80, 80)), data / "fish" / "new.jpg")
    result = clean(data, CleanOptions(checks=("two_labels", "near_duplicate")))
    assert any(str(copy) in paths for paths in found(result, "two_labels"))
    assert not any(str(copy) in paths for paths in found(result, "near_duplicate"))


def test_picture_in_wrong_folder_is_found(sample, tmp_path):
    data = shutil.copytree(sample, tmp_path / "data")
    shutil.move(data / "tree" / "tree-010.jpg", data / "fish")
    findings = clean(data, CleanOptions(checks=("wrong_label",)))["findings"]
    (finding,) = [finding for finding in findings if names(finding) == ["tree-010.jpg"]]
    assert "looks like tree" in finding["reason"]
    assert "not fish" in finding["reason"]


def test_train_and_test_are_cleaned_together_and_test_stays(data, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(data, whole / "train")
    for label in ("fish", "tree"):
        (whole / "test" / label).mkdir(parents=True)
        shutil.copy(data / label / f"{label}-001.jpg", whole / "test" / label / "a longer name.jpg")
    result = clean(whole, CleanOptions(checks=("identical",), apply=True))
    assert result["moved"] == 2
    assert len(list((whole / "test").glob("*/*"))) == 2
    assert not (whole / "train" / "fish" / "fish-001.jpg").exists()


@pytest.mark.parametrize("layout", ["flat", "one class"])
def test_checks_of_labels_are_left_out_without_classes(layout, data, caplog):
    caplog.set_level(logging.INFO)
    folder = data / "tree" if layout == "flat" else data
    shutil.rmtree(data / "fish")
    shutil.copy(data / "tree" / "tree-000.jpg", data / "tree" / "again.jpg")
    result = clean(folder)
    assert result["counts"]["identical"] == 1
    assert not {"wrong_label", "two_labels"} & result["counts"].keys()
    assert "no check of two_labels, wrong_label" in caplog.text


def test_folder_of_no_pictures_at_all_is_a_list_of_reasons(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "notes.txt").write_text("no picture")
    result = clean(tmp_path / "data")
    assert result["counts"] == {
        check: int(check == "unreadable") for check in CHECKS if not CHECKS[check].needs_classes
    }


def test_empty_folder_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(RetrainError, match="holds no files"):
        clean(tmp_path / "data")


def test_unknown_pictures_are_left_alone(spoilt):
    expected = clean(spoilt, CleanOptions(checks=LIGHT))
    shutil.copytree(spoilt / "tree", spoilt / "_unknown")
    result = clean(spoilt, CleanOptions(checks=LIGHT))
    assert (result["findings"], result["counts"]) == (expected["findings"], expected["counts"])


def test_unknown_check_names_the_nearest(data):
    with pytest.raises(RetrainError, match="no check 'blured'") as error:
        clean(data, CleanOptions(checks=("blured",)))
    assert "blurred" in error.value.hint


def test_hostile_names_come_through(tmp_path):
    data = tmp_path / "data"
    hostile = [
        b"-rf.png",
        b"new\nline.png",
        b"bad\xff\xfe.png",
        "\U0001f4f7 <b>&amp;.png".encode(),
        b"x" * 251 + b".png",
    ]
    for label in ("--apply", "two <i>"):
        (data / label).mkdir(parents=True)
        for number, name in enumerate(hostile):
            with open(data / label / os.fsdecode(name), "wb") as file:
                noise(number, (9 + len(label), 9)).save(file, "PNG")
    before = state(data)
    page = tmp_path / "suspects.html"
    result = clean(data, CleanOptions(checks=("tiny",), apply=True, html=page))
    assert (result["moved"], result["left"]) == (2 * len(hostile), [])
    text = page.read_text("utf-8")
    assert "&lt;b&gt;&amp;amp;" in text
    assert "<b>" not in text
    assert undo_clean(data)["left"] == []
    assert state(data) == before


def test_page_shows_pictures_and_is_the_only_file_it_overwrites(spoilt, tmp_path):
    page, theirs = tmp_path / "suspects.html", tmp_path / "theirs.html"
    for _ in range(2):
        clean(spoilt, CleanOptions(checks=LIGHT, html=page))
    text = page.read_text("utf-8")
    assert text.count('src="data:image/jpeg;base64,') == 7  # but for the damaged one
    assert "http" not in text
    assert "<script" not in text
    theirs.write_text("mine")
    with pytest.raises(RetrainError, match="is there already"):
        clean(spoilt, CleanOptions(checks=LIGHT, html=theirs))
    assert theirs.read_text() == "mine"


def test_link_to_a_picture_that_is_there_is_no_copy(data):
    (data / "tree" / "link.jpg").symlink_to(data / "tree" / "tree-000.jpg")
    assert clean(data, CleanOptions(checks=("identical",)))["findings"] == []


def test_link_stays_and_is_told(data, tmp_path):
    target = save(noise(5, (8, 8)), tmp_path / "elsewhere.png")
    (data / "tree" / "link.png").symlink_to(target)
    result = clean(data, CleanOptions(checks=("tiny",), apply=True))
    assert (result["moved"], result["quarantine"]) == (0, None)
    assert result["left"] == [
        {
            "path": str(data / "tree" / "link.png"),
            "reason": "a symbolic link leads to it, and a move would break that",
        }
    ]
    assert target.exists()


def test_read_only_data_are_looked_at_and_left(ordinary_user, monkeypatch):
    monkeypatch.setenv("TF_FILES", str(ordinary_user / "tf_files"))
    data = ordinary_user / "data"
    for number in range(3):
        save(noise(number, (8, 8)), data / "a" / f"{number}.png")
    (data / "a").chmod(0o500)
    before = state(data)
    result = clean(data, CleanOptions(checks=("tiny",), apply=True))
    assert (len(result["left"]), result["moved"]) == (3, 0)
    assert state(data) == before


def test_picture_known_by_heart_is_predicted_without_its_copies():
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(60, 4)).astype(np.float32)
    labels = np.repeat([0, 1], 30)
    embeddings[labels == 1] += 4
    embeddings[:2] = embeddings[30] + 1  # two copies in the other class, each of which would vouch for the other
    groups = [b"copies", b"copies", *(b"%d" % row for row in range(2, 60))]
    rows, probabilities = wrong_label.predict(embeddings, labels, groups, 2)
    assert rows.tolist() == list(range(60))
    assert set(wrong_label.suspects(labels, probabilities)) >= {0, 1}


@pytest.mark.real
def test_wrong_labels_are_found_among_real_photos(real_data):
    from benchmarks.labels import learn, measure_seed, stored

    learned = learn(stored(real_data / "flowers" / "train"))
    rows = [measure_seed(learned, seed) for seed in range(2)]
    assert np.mean([row["recall"] for row in rows]) >= 0.75
    assert np.mean([row["precision"] for row in rows]) >= 0.75


@pytest.mark.real
def test_real_photos_are_hardly_suspected(real_data):
    counts = clean(real_data / "flowers", CleanOptions(checks=LIGHT))["counts"]
    assert counts == dict.fromkeys(counts, 0)


def test_missing_scikit_learn_is_told_before_any_work(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(RetrainError, match="scikit-learn"):
        clean(data)
    assert not Path(os.environ["TF_FILES"]).exists()
