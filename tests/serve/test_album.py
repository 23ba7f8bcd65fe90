"""The class folders as they are changed, and changed back."""

import json
import shutil

import pytest

from retrain.errors import RetrainError
from retrain.serve.album import HOME, JOURNAL, Album, MissingError, TakenError


@pytest.fixture
def album(data):
    with Album(data).opened() as album:
        yield album


def tree(folder):
    """{path: bytes} of all that is seen in a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and HOME not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def ids(album):
    return {each.name: each.id for each in album.classes()}


def pictures(album, name):
    return next([album.id_of(path) for path in each.pictures] for each in album.classes() if each.name == name)


def test_classes_have_their_pictures(album, data):
    assert [(each.name, len(each.pictures)) for each in album.classes()] == [("fish", 6), ("tree", 6)]
    assert album.path_of(pictures(album, "tree")[0]) == data.resolve() / "tree" / "tree-000.jpg"


def test_ids_tell_nothing_and_stay(album, data):
    first = ids(album)
    assert first == ids(Album(data))
    assert all(set(number) <= set("0123456789abcdef") for number in first.values())


def test_new_class_is_empty_and_can_be_undone(album, data):
    number = album.add_class(" boat ")
    assert album.path_of(number) == data.resolve() / "boat"
    assert [each.name for each in album.classes()] == ["boat", "fish", "tree"]
    assert album.last.text == "boat added"
    album.undo()
    assert [each.name for each in album.classes()] == ["fish", "tree"]


@pytest.mark.parametrize("name", ["fish", "FISH", " fish", "tree "])
def test_name_that_is_taken_is_refused(album, name):
    with pytest.raises(TakenError, match="already"):
        album.add_class(name)


@pytest.mark.parametrize("name", ["", " ", "..."])
def test_what_is_no_name_is_refused(album, data, name):
    before = tree(data)
    with pytest.raises(RetrainError):
        album.add_class(name)
    assert tree(data) == before


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "..\\evil", ".hidden", "_unknown", "con", "a" * 999])
def test_hostile_names_stay_below_the_data(album, data, name):
    folder = album.path_of(album.add_class(name))
    assert folder.parent == data.resolve()
    assert folder.name in [each.name for each in album.classes()]


def test_renamed_class_keeps_its_pictures(album, data):
    before = tree(data)
    number = album.rename_class(ids(album)["fish"], "salmon")
    assert [each.name for each in album.classes()] == ["salmon", "tree"]
    assert album.path_of(number).name == "salmon"
    album.undo()
    assert tree(data) == before


def test_class_that_is_taken_out_comes_back(album, data):
    before = tree(data)
    assert album.remove_class(ids(album)["fish"]) == 6
    assert [each.name for each in album.classes()] == ["tree"]
    album.undo()
    assert tree(data) == before


def test_added_pictures_are_there_but_for_copies_and_what_is_none(album, data, sample):
    before = tree(data)
    new, old = sample / "sun" / "sun-000.jpg", sample / "fish" / "fish-000.jpg"
    files = [
        ("a.jpg", new.read_bytes()),
        ("b.jpg", new.read_bytes()),
        ("old.jpg", old.read_bytes()),
        ("c.jpg", b"none"),
    ]
    added, refused, known = album.add_pictures(ids(album)["fish"], files)
    assert [path.name for path in added] == ["a.jpg"]
    assert [(name, reason.partition(" ")[0]) for name, reason in refused] == [("c.jpg", "not_an_image")]
    assert known == ["old.jpg"]
    assert added[0].read_bytes() == new.read_bytes()
    album.undo()
    assert tree(data) == before


@pytest.mark.parametrize(
    "name", ["../../x.jpg", "/etc/passwd", "C:\\x.jpg", "fish-000.jpg", ".x", "", "con.jpg", "é" * 300]
)
def test_names_of_pictures_are_made_safe_and_overwrite_nothing(album, data, sample, name):
    before = tree(data)
    content = (sample / "sun" / "sun-000.jpg").read_bytes()
    ((path,), _, _) = album.add_pictures(ids(album)["fish"], [(name, content)])
    assert path.parent == data.resolve() / "fish"
    assert tree(data) == before | {path.relative_to(data.resolve()).as_posix(): content}


def test_moved_pictures_go_back(album, data):
    before = tree(data)
    shutil.copy(data / "fish" / "fish-000.jpg", data / "tree" / "fish-000.jpg")
    with_copy = tree(data)
    moved = pictures(album, "fish")[:2]
    assert album.move_pictures(moved, ids(album)["tree"]) == 2
    assert sorted(tree(data)) == sorted(
        [
            *(set(before) - {"fish/fish-000.jpg", "fish/fish-001.jpg"}),
            "tree/fish-000.jpg",
            "tree/fish-000-2.jpg",
            "tree/fish-001.jpg",
        ]
    )
    assert album.last.text == "2 pictures moved to tree"
    album.undo()
    assert tree(data) == with_copy


def test_picture_that_is_in_the_class_stays(album):
    assert album.move_pictures(pictures(album, "fish")[:1], ids(album)["fish"]) == 0
    assert album.last is None


def test_pictures_taken_out_come_back_step_by_step(album, data):
    trees = [tree(data)]
    for number in pictures(album, "fish")[:2]:
        assert album.move_pictures([number], None) == 1
        trees.append(tree(data))
    for expected in trees[-2::-1]:
        album.undo()
        assert tree(data) == expected
    with pytest.raises(TakenError, match="nothing to undo"):
        album.undo()


def test_what_was_changed_since_is_left_and_the_step_before_is_next(album, data):
    first, second = pictures(album, "fish")[:2]
    album.move_pictures([first], ids(album)["tree"])
    album.move_pictures([second], ids(album)["tree"])
    (data / "tree" / "fish-001.jpg").write_bytes(b"mine")
    with pytest.raises(TakenError, match="has been changed since"):
        album.undo()
    assert (data / "tree" / "fish-001.jpg").read_bytes() == b"mine"
    album.undo()
    assert (data / "fish" / "fish-000.jpg").exists()


def test_old_place_that_is_taken_is_not_overwritten(album, data):
    album.move_pictures(pictures(album, "fish")[:1], None)
    (data / "fish" / "fish-000.jpg").write_bytes(b"mine")
    with pytest.raises(TakenError):
        album.undo()
    assert (data / "fish" / "fish-000.jpg").read_bytes() == b"mine"


def test_steps_outlive_the_process(album, data):
    before = tree(data)
    album.remove_class(ids(album)["fish"])
    again = Album(data)
    assert again.last.text == "fish taken out"
    again.undo()
    assert tree(data) == before
    assert Album(data).last is None


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_step_that_was_killed_is_taken_back(data, moved):
    before = tree(data)
    home = data / HOME
    (home / "0").mkdir(parents=True)
    names = ["fish-000.jpg", "fish-001.jpg"]
    from retrain.serve.album import _digest

    moves = [[f"fish/{name}", f"{HOME}/0/{name}", _digest(data / "fish" / name)] for name in names]
    (home / JOURNAL).write_text(json.dumps({"step": 0, "text": "x", "moves": moves}) + '\n{"torn')
    for name in names[:moved]:
        (data / "fish" / name).rename(home / "0" / name)
    with Album(data).opened() as album:
        assert tree(data) == before
        assert album.last is None


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b"])
def test_journal_of_a_stranger_leads_nowhere(data, path):
    (data / HOME).mkdir()
    (data / HOME / JOURNAL).write_text(json.dumps({"step": 0, "text": "x", "moves": [[path, "fish/x", "0"]]}) + "\n")
    with pytest.raises(RetrainError, match="damaged"):
        Album(data)


def test_links_out_of_the_data_are_not_shown(album, data, tmp_path):
    (tmp_path / "secret.jpg").write_bytes((data / "fish" / "fish-000.jpg").read_bytes())
    (data / "fish" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    assert len(pictures(album, "fish")) == 6
    number = album.id_of(data.resolve() / "fish" / "link.jpg")
    with pytest.raises(MissingError):
        album.path_of(number)


def test_unknown_ids_are_missing(album):
    for number in ("0" * 20, "", "../fish"):
        with pytest.raises(MissingError):
            album.path_of(number)


def test_folder_of_undo_that_was_deleted_is_made_again(album, data):
    shutil.rmtree(data / HOME)
    assert album.move_pictures(pictures(album, "fish")[:1], None) == 1
    album.undo()
    assert len(pictures(album, "fish")) == 6


def test_second_server_is_kept_out(album, data):
    with pytest.raises(RetrainError, match="another retrain serve"), Album(data).opened():
        pass


def test_split_data_set_is_refused(data):
    for part in ("train", "test"):
        shutil.copytree(data / "fish", data / part / "fish")
    with pytest.raises(RetrainError, match="is split"):
        Album(data)
