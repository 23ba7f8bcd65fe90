import inspect
import logging
import os
import sys
from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.dataset import (
    NOHASH,
    OWN_MARKS,
    TESTING,
    TRAINING,
    VALIDATION,
    choose,
    find_dataset,
    legacy_label,
    legacy_part,
    related_by_name,
    require_classes,
    split,
    walk,
    warn_of_small_classes,
)
from retrain.duplicates import group_by
from retrain.errors import RetrainError
from retrain.head import make_folds


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, "retrain")
    return caplog


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def classes_of(folder, only=()):
    return find_dataset(folder, only).classes


HOSTILE = ["Darth Vader (1)", "a.b", "Löwenzahn", "タンポポ", "🌻", "new\nline", "-x", "'", os.fsdecode(b"caf\xe9")]


@pytest.mark.parametrize("name", HOSTILE)
def test_class_keeps_its_true_name(tmp_path, name):
    dataset = find_dataset(make(tmp_path, f"{name}/{name}.jpg", "other/2.jpg"))
    assert sorted(dataset.classes) == sorted([name, "other"])
    assert tmp_path / name / f"{name}.jpg" in dataset.paths


def test_nested_folders_belong_to_first_level(tmp_path):
    dataset = find_dataset(make(tmp_path, "cat/1.jpg", "cat/black/2.jpg", "cat/black/old/3.jpg", "dog/4.jpg"))
    assert dataset.classes == ["cat", "dog"]
    assert Counter(dataset.labels) == {0: 3, 1: 1}


def test_files_beside_the_class_folders_are_no_class(tmp_path):
    assert len(find_dataset(make(tmp_path, "README.txt", "cat/1.jpg", "dog/2.jpg"))) == 2


def test_order_is_the_names_order(tmp_path):
    dataset = find_dataset(make(tmp_path, "b/2", "b/1", "a/9", "a/10"))
    assert [path.relative_to(tmp_path).as_posix() for path in dataset.paths] == ["a/10", "a/9", "b/1", "b/2"]


def test_hidden_files_are_left_out_and_counted(tmp_path, messages):
    dataset = find_dataset(make(tmp_path, "cat/1.jpg", "cat/.DS_Store", "cat/.thumbs/1.jpg", "dog/2.jpg", ".git/x"))
    assert [path.name for path in dataset.paths] == ["1.jpg", "2.jpg"]
    assert messages.text.count("2 hidden") == 1


@pytest.mark.parametrize("mark", OWN_MARKS)
@pytest.mark.parametrize("place", ["a-own", "cat/0-own"])
def test_own_folder_is_left_out_and_named_once(tmp_path, messages, mark, place):
    dataset = find_dataset(make(tmp_path, "cat/1.jpg", "dog/2.jpg", f"{place}/{mark}", f"{place}/x/3.jpg"))
    assert (dataset.classes, len(dataset)) == (["cat", "dog"], 2)
    assert messages.text.count(f"{tmp_path / place} was written by retrain") == 1


def test_first_level_names_with_underscore_are_left_out(tmp_path):
    assert classes_of(make(tmp_path, "cat/1.jpg", "cat/_raw/2.jpg", "dog/3.jpg", "_unknown/4.jpg")) == ["cat", "dog"]
    assert len(find_dataset(tmp_path)) == 3


def test_unknown_pictures_are_of_no_class(tmp_path):
    dataset = find_dataset(
        make(tmp_path, "cat/1.jpg", "dog/2.jpg", "_unknown/3.jpg", "_unknown/far/4.jpg", "_raw/5.jpg")
    )
    assert (dataset.classes, len(dataset)) == (["cat", "dog"], 2)
    assert [path.name for path in dataset.unknown] == ["3.jpg", "4.jpg"]
    assert dataset.take([0]).unknown == dataset.unknown


def test_unknown_pictures_of_train_and_test_count_together(tmp_path):
    make(tmp_path, "train/cat/1", "train/dog/2", "train/_unknown/3", "test/cat/4", "test/_unknown/5", "_unknown/6")
    dataset = find_dataset(tmp_path)
    assert (dataset.classes, len(dataset)) == (["cat", "dog"], 3)
    assert sorted(path.name for path in dataset.unknown) == ["3", "5", "6"]


def test_no_unknown_pictures_is_no_trouble(tmp_path):
    assert find_dataset(make(tmp_path, "cat/1", "dog/2")).unknown == []


def test_link_loop_ends(tmp_path):
    make(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "cat" / "self").symlink_to("self")
    assert Counter(path.name for path in walk(tmp_path / "cat")) == {"1.jpg": 1, "self": 1, "2.jpg": 1}


def test_links_are_followed(tmp_path):
    make(tmp_path, "elsewhere/1.jpg", "data/dog/2.jpg")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    assert find_dataset(tmp_path / "data").paths[0].name == "1.jpg"


def test_deep_folders_are_walked(tmp_path):
    depth = 200
    make(tmp_path, "a/" * depth + "1.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + depth)
    try:
        found = list(walk(tmp_path))
    finally:
        sys.setrecursionlimit(limit)
    assert [path.name for path in found] == ["1.jpg"]


def test_train_and_test_layout_is_used_and_said(tmp_path, messages):
    dataset = find_dataset(make(tmp_path, "train/cat/1", "train/dog/2", "test/cat/3", "val/dog/4", "docs/x/5"))
    assert dataset.classes == ["cat", "dog"]
    found = {path.name: part for path, part in zip(dataset.paths, dataset.parts, strict=True)}
    assert found == {"1": TRAINING, "2": TRAINING, "3": TESTING, "4": VALIDATION}
    assert "used as they are" in messages.text


def test_stray_file_does_not_hide_train_and_test_layout(tmp_path):
    make(tmp_path, "train/cat/1", "train/dog/2", "test/cat/3", "train/labels.csv", "test/.DS_Store")
    assert classes_of(tmp_path) == ["cat", "dog"]


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.jpg", "test/2.jpg", "bus/3.jpg"],
        ["train/1.jpg", "test/old/2.jpg", "bus/3.jpg"],
        ["train/steam/1.jpg", "test/2.jpg", "bus/3.jpg"],
    ],
)
def test_pictures_of_trains_are_a_class(tmp_path, names):
    dataset = find_dataset(make(tmp_path, *names))
    assert dataset.classes == ["bus", "test", "train"]
    assert dataset.parts is None


def test_train_without_test_is_a_class(tmp_path):
    assert classes_of(make(tmp_path, "train/steam/1.jpg", "bus/2.jpg")) == ["bus", "train"]


def test_only_keeps_the_classes_named(tmp_path):
    assert classes_of(make(tmp_path, "cat/1", "dog/2", "fox/3"), only=("fox", "cat")) == ["cat", "fox"]


def test_only_names_what_is_missing_and_what_there_is(tmp_path):
    with pytest.raises(RetrainError, match="no class wolf") as caught:
        find_dataset(make(tmp_path, "cat/1", "dog/2"), only=("cat", "wolf"))
    assert "cat" in caught.value.hint


def test_empty_class_is_left_out_and_named(tmp_path, messages):
    make(tmp_path, "cat/1", "dog/2")
    (tmp_path / "fox" / "deeper").mkdir(parents=True)
    assert classes_of(tmp_path) == ["cat", "dog"]
    assert "class fox holds no files" in messages.text


@pytest.mark.parametrize(("names", "words"), [([], "no pictures"), (["1.jpg"], "no pictures"), (["cat/1"], "only one")])
def test_too_few_classes_are_an_error_with_a_hint(tmp_path, names, words):
    dataset = find_dataset(make(tmp_path, *names))
    with pytest.raises(RetrainError, match=words) as caught:
        require_classes(dataset, tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("count", "words"), [(1, "trained, not tested"), (2, "trained, not tested"), (19, "has only 19")]
)
def test_small_class_is_warned_of(tmp_path, messages, count, words):
    dataset = find_dataset(make(tmp_path, *[f"cat/{n}" for n in range(count)], *[f"dog/{n}" for n in range(20)]))
    warn_of_small_classes(dataset)
    assert "class cat" in messages.text
    assert words in messages.text
    assert "class dog" not in messages.text


def no_folder(path):
    pass


def file(path):
    path.touch()


def link_loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (no_folder, "there is no folder"),
        (file, "is a file"),
        (link_loop, "cannot be read"),
    ],
)
def test_what_is_no_folder_is_an_error_with_a_hint(tmp_path, prepare, words):
    prepare(tmp_path / "data")
    with pytest.raises(RetrainError, match=words) as caught:
        find_dataset(tmp_path / "data")
    assert caught.value.hint


def test_locked_folder_is_left_out_and_named(ordinary_user, messages):
    make(ordinary_user, "cat/1.jpg", "dog/2.jpg", "locked/3.jpg", "cat/locked/4.jpg")
    for name in ("locked", "cat/locked"):
        (ordinary_user / name).chmod(0)
    assert classes_of(ordinary_user) == ["cat", "dog"]
    for name in ("locked", "cat/locked"):
        assert f"{ordinary_user / name} cannot be read (Permission denied)" in messages.text


@pytest.mark.parametrize("name", ["data", "data/train"])
def test_locked_data_is_an_error_with_a_hint(ordinary_user, name):
    (ordinary_user / name).mkdir(parents=True)
    (ordinary_user / name).chmod(0)
    with pytest.raises(RetrainError, match="cannot be read: Permission denied") as caught:
        find_dataset(ordinary_user / "data")
    assert caught.value.hint


def test_folder_that_vanishes_is_left_out(tmp_path, messages):
    assert list(walk(tmp_path / "gone")) == []
    assert "cannot be read" in messages.text


def digests(numbers):
    return [sha256(str(number).encode()).digest() for number in numbers]


# Each picture: its class, and the number of its content; equal numbers are equal files.
PICTURES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=120)


@given(PICTURES, st.randoms(use_true_random=False))
def test_split_sees_neither_order_nor_names(pictures, random):
    def parts_of(pictures):
        labels, contents = zip(*pictures, strict=True)
        return dict(zip(pictures, split(labels, digests(contents)), strict=True))

    shuffled = random.sample(pictures, len(pictures))
    assert parts_of(pictures) == parts_of(shuffled)


@given(PICTURES)
def test_equal_pictures_never_cross_parts(pictures):
    labels, contents = zip(*pictures, strict=True)
    parts = defaultdict(set)
    for content, part in zip(contents, split(labels, digests(contents)), strict=True):
        parts[content].add(part)
    assert all(len(found) == 1 for found in parts.values())


@given(PICTURES)
def test_class_of_three_groups_has_every_part_and_a_smaller_one_is_trained(pictures):
    labels, contents = zip(*pictures, strict=True)
    parts = split(labels, digests(contents))
    owners = defaultdict(set)
    for label, content in pictures:
        owners[content].add(label)
    for label in set(labels):
        rows = [row for row, picture in enumerate(pictures) if picture[0] == label]
        # What lies in two classes at once teaches, and measures nothing.
        groups = {contents[row] for row in rows if owners[contents[row]] == {label}}
        expected = {TRAINING, VALIDATION, TESTING} if len(groups) >= 3 else {TRAINING}
        assert set(parts[rows]) == expected


def test_picture_in_two_classes_is_warned_of(messages):
    split([0, 1, 0, 1], digests([1, 1, 2, 3]))
    assert "1 picture(s) lie in more than one class" in messages.text


@given(st.integers(200, 400), st.integers(1, 100))
def test_adding_pictures_to_a_large_class_moves_none(old, new):
    before = split([0] * old, digests(range(old)))
    after = split([0] * (old + new), digests(range(old + new)))
    assert (after[:old] == before).all()


# Which pictures are copies of which, by their rows.
COPIES = st.lists(st.tuples(st.integers(0, 119), st.integers(0, 119)), max_size=30)


def grouped(pictures, copies):
    """Labels and groups of pictures, of which some are copies."""
    labels, contents = zip(*pictures, strict=True)
    related = [(one, other) for one, other in copies if max(one, other) < len(pictures)]
    return labels, group_by(digests(contents), list(zip(*related, strict=True)) or ((), ()))


@given(PICTURES, COPIES)
def test_copies_never_cross_parts_nor_folds(pictures, copies):
    labels, groups = grouped(pictures, copies)
    parts = split(labels, groups)
    learned = np.flatnonzero(parts != TESTING)
    folds = make_folds(np.array(labels)[learned], [groups[row] for row in learned])
    for one, other in copies:
        if max(one, other) < len(pictures):
            assert parts[one] == parts[other]
            assert len({fold for row, fold in zip(learned, folds, strict=True) if row in (one, other)}) <= 1


@given(PICTURES, COPIES, st.integers(0, 40))
def test_old_picture_enters_the_test_only_where_the_test_of_its_class_would_be_empty(pictures, copies, new):
    labels, groups = grouped(pictures, copies)
    old = max(1, len(pictures) - new)
    before = split(*grouped(pictures[:old], copies))
    after = split(labels, groups)
    for row in np.flatnonzero((before != TESTING) & (after[:old] == TESTING)):
        rows = [other for other in range(len(pictures)) if labels[other] == labels[row]]
        tested_before = {labels[other] for other in range(old) if before[other] == TESTING}
        # Its class had no test, being too small, or its only tested picture left with a copy that came in.
        assert (
            labels[row] not in tested_before or len({groups[other] for other in rows if after[other] == TESTING}) == 1
        )


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.2, 0.0), (0.0, 0.1), (0.5, 0.25)])
def test_shares_are_about_right(shares):
    parts = split([0] * 20_000, digests(range(20_000)), test_share=shares[0], validation_share=shares[1])
    assert np.mean(parts == TESTING) == pytest.approx(shares[0], abs=0.01)
    assert np.mean(parts == VALIDATION) == pytest.approx(shares[1], abs=0.01)


def test_no_test_share_tests_nothing():
    assert TESTING not in split([0] * 5 + [1] * 5, digests(range(10)), test_share=0)


@pytest.mark.parametrize(
    ("name", "label"), [("Darth Vader", "darth vader"), ("a--b_c", "a b c"), ("Löwe 2", "l we 2"), ("🌻", " ")]
)
def test_legacy_label_is_the_original_form(name, label):
    assert legacy_label(name) == label


PERCENT = 1 / 100
# What the original retrain.py makes of these paths: specs of the old command, not our doing.
LEGACY = {
    "/tf_files/data/daisy/photo1.jpg": (1.746699, VALIDATION),
    "/tf_files/data/elsa/images07.jpg": (8.715542, VALIDATION),
    "/tf_files/data/elsa/images01.jpg": (11.121816, TESTING),
    "/tf_files/data/elsa/images10.jpg": (14.359207, TESTING),
    "/tf_files/data/elsa/images08.jpg": (19.638577, TESTING),
    "flower_photos/daisy/3475870145_685a19116d.jpg": (20.644716, TRAINING),
    "/data/flower_photos/daisy/3475870145_685a19116d.jpg": (30.630258, TRAINING),
    "/tf_files/data/elsa/é.jpg": (34.191135, TRAINING),
    "/tf_files/data/elsa/images00.jpg": (38.723730, TRAINING),
    "/tf_files/data/daisy/photo2.jpg": (50.634363, TRAINING),
    "/tf_files/flower_photos/daisy/3475870145_685a19116d.jpg": (76.377213, TRAINING),
    "/tf_files/data/rose/anotherphoto77.jpg": (85.344313, TRAINING),
    "/tf_files/data/leaf/leaf01_nohash_0.jpg": (93.237589, TRAINING),
    "/tf_files/data/leaf/leaf01_nohash_7.jpg": (93.237589, TRAINING),
    "/tf_files/flower_photos/daisy/21652746_cc379e0eea_m.jpg": (96.020520, TRAINING),
}


@pytest.mark.parametrize("path", LEGACY)
def test_legacy_split_is_the_original_one(path):
    percentage, part = LEGACY[path]
    assert legacy_part(path) == part
    # The percentage itself: the limit of the first part lies just above it, or just below.
    assert legacy_part(path, 0, (percentage + 1e-6) * PERCENT) == VALIDATION
    assert legacy_part(path, 0, (percentage - 1e-6) * PERCENT) == TRAINING


def test_legacy_split_has_the_original_counts():
    parts = Counter(legacy_part(f"/tf_files/data/elsa/images{number:04}.jpg") for number in range(1000))
    assert parts == {TRAINING: 818, VALIDATION: 95, TESTING: 87}


@pytest.mark.parametrize(("testing", "validation"), [(10, 10), (20, 5), (0, 30), (33, 0), (7, 29)])
def test_legacy_shares_are_the_original_percentages(testing, validation):
    expected = {
        path: VALIDATION if at < validation else TESTING if at < validation + testing else TRAINING
        for path, (at, _) in LEGACY.items()
    }
    assert {path: legacy_part(path, testing * PERCENT, validation * PERCENT) for path in LEGACY} == expected


def test_legacy_split_goes_by_the_whole_path_and_moving_data_moves_pictures():
    names = [f"daisy/{number}.jpg" for number in range(2000)]
    moved = sum(legacy_part(f"/tf_files/data/{name}") != legacy_part(f"/mnt/data/{name}") for name in names)
    assert 0.3 < moved / len(names) < 0.37


def test_legacy_split_takes_a_name_that_is_no_utf_8():
    assert legacy_part(os.fsdecode(b"/data/caf\xe9.jpg")) in (TRAINING, VALIDATION, TESTING)


def related(names, *patterns):
    first, second = related_by_name([Path(name) for name in names], patterns)
    return set(zip(first, second, strict=True)) - {(row, row) for row in range(len(names))}


def test_variants_of_one_picture_are_related():
    names = ["a/leaf_nohash_0.jpg", "a/leaf_nohash_1.jpg", "a/other_nohash_0.jpg", "a/leaf.jpg", "b/leaf_nohash_2.jpg"]
    assert related(names, NOHASH) == {(0, 1)}
    assert related(["a_nohash_1_nohash_2.jpg", "a_nohash_3.jpg"], NOHASH) == {(0, 1)}


def test_bursts_are_related_by_the_first_group_of_a_pattern():
    names = ["IMG_1 (1).jpg", "IMG_2.jpg", "IMG_1-b.jpg", "x.jpg", "IMG_1_nohash_.jpg"]
    assert related(names, r"(IMG_\d+)") == {(0, 2), (0, 4)}
    assert related(names, r"(IMG_\d+)", NOHASH) == {(0, 2), (0, 4)}


@pytest.mark.parametrize("pattern", [r"(a)?\d", r"(a*)\d"])
def test_group_that_matches_nothing_relates_nothing(pattern):
    assert not related(["1.jpg", "2.jpg", "a1.jpg"], pattern)


@pytest.mark.parametrize(("pattern", "words"), [("(", "no regular expression"), ("IMG", "has no group")])
def test_pattern_that_is_none_is_an_error_with_a_hint(pattern, words):
    with pytest.raises(RetrainError, match=words) as caught:
        related(["1.jpg"], pattern)
    assert caught.value.hint


@given(PICTURES, st.integers(1, 30), st.randoms(use_true_random=False))
def test_choice_takes_up_to_the_limit_and_sees_no_order(pictures, limit, random):
    def chosen_of(pictures):
        labels, contents = zip(*pictures, strict=True)
        rows = choose(labels, digests(contents), digests(contents), limit)
        assert rows == sorted(set(rows))
        return Counter(pictures[row] for row in rows)

    chosen = chosen_of(pictures)
    per_class = Counter(label for label, _ in pictures)
    assert Counter(label for label, _ in chosen.elements()) == {
        label: min(limit, count) for label, count in per_class.items()
    }
    assert chosen_of(random.sample(pictures, len(pictures))) == chosen


@given(st.integers(50, 200), st.integers(0, 20))
def test_pictures_that_come_in_displace_few_of_the_chosen(old, new):
    before = choose([0] * old, digests(range(old)), digests(range(old)), 30)
    after = choose([0] * (old + new), digests(range(old + new)), digests(range(old + new)), 30)
    assert len(set(before) - set(after)) <= new


def test_different_pictures_are_chosen_before_copies():
    groups = digests([1, 1, 1, 2, 3])
    rows = choose([0] * 5, digests(range(5)), groups, 3)
    assert len({groups[row] for row in rows}) == 3


def test_chosen_pictures_are_in_every_part():
    groups = digests(range(1000))
    rows = choose([0] * 1000, groups, groups, 200)
    shares = Counter(split([0] * 200, [groups[row] for row in rows]).tolist())
    assert 10 <= shares[TESTING] <= 35
    assert 10 <= shares[VALIDATION] <= 35


def test_taken_rows_keep_their_class_and_part(tmp_path):
    dataset = find_dataset(make(tmp_path, "train/cat/1", "train/dog/2", "test/cat/3", "test/dog/4")).take([3, 0])
    assert (dataset.classes, dataset.labels, dataset.parts) == (["cat", "dog"], [1, 0], [TESTING, TRAINING])
    assert [path.name for path in dataset.paths] == ["4", "1"]
