import os
import shutil
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled import write_labels

from retrain.dataset import TESTING, TRAINING, VALIDATION
from retrain.errors import RetrainError
from retrain.multilabel.data import deal_folds, find_labelled, labels_files, merge_same, split


@pytest.fixture
def folder(tmp_path):
    """A folder of four files."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    return tmp_path


def told(dataset):
    """{name: labels} of a data set."""
    return {path.name: dataset.names_of(row) for row, path in enumerate(dataset.paths)}


def test_labels_of_a_row_stand_between_semicolons_or_bars(folder):
    write_labels(folder, [("a.jpg", "anna;ben"), ("b.jpg", " ben | anna "), ("c.jpg", "ben"), ("d.jpg", "")])
    dataset = find_labelled(folder)
    assert dataset.classes == ["anna", "ben"]
    assert told(dataset) == {"a.jpg": ["anna", "ben"], "b.jpg": ["anna", "ben"], "c.jpg": ["ben"], "d.jpg": []}
    assert dataset.parts is None
    assert dataset.refused == []


def test_rows_of_one_picture_add_up(folder):
    write_labels(folder, [("a.jpg", "anna"), ("./a.jpg", "ben"), ("b.jpg", "ben")])
    assert told(find_labelled(folder)) == {"a.jpg": ["anna", "ben"], "b.jpg": ["ben"]}


def test_columns_may_stand_in_any_order_behind_a_byte_order_mark(folder):
    (folder / "labels.csv").write_bytes("\ufeffwho,labels,path\nme,Zoë,a.jpg\nme,ben,b.jpg\n".encode())
    assert told(find_labelled(folder)) == {"a.jpg": ["Zoë"], "b.jpg": ["ben"]}


BAD_ROWS = {
    "gone.jpg,anna": "no such file, line 3",
    ".,anna": "no such file, line 3",
    ",anna": "no path, line 3",
    "../out.jpg,anna": "a path out of the folder, line 3",
    "sub/../../out.jpg,anna": "a path out of the folder, line 3",
    "/etc/hostname,anna": "a path out of the folder, line 3",
    "b.jpg": "not as many fields as the first line; between labels stands ;, line 3",
    "b.jpg,anna,ben": "not as many fields as the first line; between labels stands ;, line 3",
    'b.jpg,"anna\nc.jpg,ben': "a quotation mark that is not closed, line 4",
    "b\0.jpg,anna": "no such file, line 3",
}


@pytest.mark.parametrize(("row", "error"), BAD_ROWS.items(), ids=map(repr, BAD_ROWS))
def test_bad_row_is_refused_with_its_line_and_the_others_count(folder, row, error):
    (folder.parent / "out.jpg").write_bytes(b"out")
    (folder / "labels.csv").write_text(f"path,labels\na.jpg,anna;ben\n{row}\n")
    dataset = find_labelled(folder)
    assert told(dataset) == {"a.jpg": ["anna", "ben"]}
    assert [str(why) for _, why in dataset.refused] == [f"bad row of labels.csv: {error}"]


def test_nothing_but_bad_rows_is_an_error_that_names_the_first(folder):
    write_labels(folder, [("gone.jpg", "anna"), ("away.jpg", "ben")])
    with pytest.raises(RetrainError, match="no picture with a label") as caught:
        find_labelled(folder)
    assert "gone.jpg: bad row of labels.csv: no such file, line 2" in caught.value.hint


def test_only_keeps_pictures_of_those_labels_and_of_none(folder):
    write_labels(folder, [("a.jpg", "anna;ben"), ("b.jpg", "ben;carl"), ("c.jpg", "carl"), ("d.jpg", "")])
    dataset = find_labelled(folder, ["ben", "anna"])
    assert dataset.classes == ["anna", "ben"]
    assert told(dataset) == {"a.jpg": ["anna", "ben"], "b.jpg": ["ben"], "d.jpg": []}
    with pytest.raises(RetrainError, match="no picture with a label dora") as caught:
        find_labelled(folder, ["ben", "dora"])
    assert caught.value.hint == "There is: anna, ben, carl."


def test_labels_in_train_and_test_split_the_pictures(folder):
    for name, part in [("a", "train"), ("b", "train"), ("c", "test"), ("d", "test/_unknown")]:
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").rename(folder / part / f"{name}.jpg")
    write_labels(folder / "train", [("a.jpg", "anna"), ("b.jpg", "ben")])
    write_labels(folder / "test", [("c.jpg", "anna;ben")])
    dataset = find_labelled(folder)
    assert told(dataset) == {"a.jpg": ["anna"], "b.jpg": ["ben"], "c.jpg": ["anna", "ben"]}
    assert dataset.parts == [TRAINING, TRAINING, TESTING]
    assert dataset.unknown == [folder / "test" / "_unknown" / "d.jpg"]


def test_own_labels_come_before_those_of_the_parts(folder):
    (folder / "train").mkdir()
    write_labels(folder / "train", [])
    write_labels(folder, [("a.jpg", "anna")])
    assert labels_files(folder) == {folder / "labels.csv": ""}


@pytest.mark.parametrize("content", [b"", b"image;class\na.jpg;anna\n", b"\xff\xfe\0", b'"' + b"x" * 200_000])
def test_labels_file_of_something_else_is_passed_over(folder, caplog, content):
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        shutil.copy(folder / "a.jpg", folder / name)
    (folder / "labels.csv").write_bytes(content)
    dataset = find_labelled(folder)
    assert dataset.targets is None
    assert dataset.labels == [0, 1]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / 'labels.csv'} does not begin with path,labels: passed over."
    ]


def test_field_without_an_end_is_an_error_with_a_hint(folder):
    (folder / "labels.csv").write_text('path,labels\na.jpg,"' + "x" * 200_000)
    with pytest.raises(RetrainError, match="cannot be read: field larger") as caught:
        find_labelled(folder)
    assert caught.value.hint


@pytest.mark.parametrize("linked", [shutil.copy, os.link, os.symlink])
def test_picture_in_several_class_folders_has_all_their_labels(folder, linked):
    for name, files in [("anna", "ab"), ("ben", "bc"), ("carl", "b")]:
        (folder / "set" / name).mkdir(parents=True)
        for file in files:
            linked(folder / f"{file}.jpg", folder / "set" / name / f"{file} of {name}.jpg")
    dataset = find_labelled(folder / "set", multi_label=True)
    rows, targets = merge_same(dataset, [sha256(path.read_bytes()).digest() for path in dataset.paths])
    assert [dataset.paths[row].name for row in rows] == ["a of anna.jpg", "b of anna.jpg", "c of ben.jpg"]
    assert targets.tolist() == [[True, False, False], [True, True, True], [False, True, False]]


def test_picture_both_learned_and_tested_stays_twice(folder):
    for part in ("train", "test"):
        (folder / part).mkdir()
        shutil.copy(folder / "a.jpg", folder / part)
        write_labels(folder / part, [("a.jpg", "anna" if part == "train" else "ben")])
    dataset = find_labelled(folder)
    rows, targets = merge_same(dataset, [b"same", b"same"])
    assert rows == [0, 1]
    assert targets.tolist() == [[True, False], [False, True]]


@st.composite
def sets(draw):
    """Targets bool (n, C), and a group each."""
    rows, labels = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    targets = random.random((rows, labels)) < draw(st.floats(0.05, 0.9))
    groups = [sha256(bytes([number])).digest() for number in random.integers(0, draw(st.integers(1, 60)), rows)]
    return targets, groups


def owned_in(rows, targets, groups):
    """Groups of each label among these rows."""
    return [len({groups[row] for row in rows if targets[row, label]}) for label in range(targets.shape[1])]


@given(sets())
def test_split_tears_no_group_and_learns_every_label(drawn):
    targets, groups = drawn
    parts = split(targets, groups)
    assert len(set(zip(groups, parts.tolist(), strict=True))) == len(set(groups))
    learned = owned_in(np.flatnonzero(parts != TESTING), targets, groups)
    assert all(learned[label] for label in range(targets.shape[1]) if targets[:, label].any())


def test_split_takes_a_tenth_each_and_leaves_no_label_untested():
    random = np.random.default_rng(0)
    targets = random.random((3_000, 6)) < [0.5, 0.3, 0.1, 0.05, 0.01, 0.002]
    groups = [random.bytes(32) for _ in range(3_000)]
    parts = split(targets, groups)
    for part, share in [(TESTING, 0.1), (VALIDATION, 0.1), (TRAINING, 0.8)]:
        assert np.mean(parts == part) == pytest.approx(share, abs=0.02)
        assert targets[parts == part].any(axis=0).all()


@pytest.mark.parametrize("order", [1, -1])
def test_split_and_folds_go_by_the_groups_not_by_the_order(order):
    random = np.random.default_rng(0)
    targets, groups = random.random((200, 3)) < 0.3, [random.bytes(32) for _ in range(200)]
    assert np.array_equal(split(targets[::order], groups[::order]), split(targets, groups)[::order])
    assert np.array_equal(deal_folds(targets[::order], groups[::order]), deal_folds(targets, groups)[::order])


@given(sets())
def test_folds_tear_no_group_and_learn_every_label(drawn):
    targets, groups = drawn
    folds = deal_folds(targets, groups)
    assert len(set(zip(groups, folds.tolist(), strict=True))) == len(set(groups))
    for fold in range(folds.max() + 1):
        assert (folds == fold).any()
        learned = owned_in(np.flatnonzero(folds != fold), targets, groups)
        assert all(learned[label] for label in range(targets.shape[1]) if targets[:, label].any())


def test_folds_share_out_every_label_evenly():
    random = np.random.default_rng(0)
    targets, groups = random.random((500, 4)) < [0.5, 0.2, 0.05, 0.02], [random.bytes(32) for _ in range(500)]
    folds = deal_folds(targets, groups)
    for label in range(4):
        counts = np.bincount(folds[targets[:, label]], minlength=5)
        assert counts.max() - counts.min() <= 1 + 0.05 * counts.sum()
    assert np.bincount(folds).tolist() == pytest.approx([100] * 5, abs=10)


def test_another_seed_deals_other_folds():
    random = np.random.default_rng(0)
    targets, groups = random.random((100, 3)) < 0.3, [random.bytes(32) for _ in range(100)]
    assert np.array_equal(deal_folds(targets, groups), deal_folds(targets, groups))
    assert not np.array_equal(deal_folds(targets, groups), deal_folds(targets, groups, seed=1))
