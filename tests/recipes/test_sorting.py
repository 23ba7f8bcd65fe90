import errno
import json
import os
import resource
import shutil
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.classifier import Guess
from retrain.cli.sort import command
from retrain.dataset import is_own
from retrain.errors import RetrainError
from retrain.options import SortOptions
from retrain.recipes import journal, sorting
from retrain.recipes.names import class_names, folder_names
from retrain.recipes.sorting import sort_dir, undo_sort

MODES = ["copy", "move", "link"]
# Of what Python tells its audit hooks beforehand: the places to die at.
STEPS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.copyfile", "shutil.copystat"}


class FakeClassifier:
    """Takes what stands before the first blank of a file's content for its label."""

    labels = ("elsa", "darth vader")

    def guess_files(self, paths):
        for path in paths:
            content = path.read_bytes() if path.is_file() else b""
            label = content.partition(b" ")[0].decode("latin1")
            if label in ("elsa", "darth-vader", "unknown", "ambiguous"):
                unknown, ambiguous = label == "unknown", label == "ambiguous"
                label = "elsa" if unknown or ambiguous else label.replace("-", " ")
                candidates = list(self.labels) if ambiguous else [label]
                yield Guess(str(path), label, 0.99621, {label: 0.99621}, unknown, candidates)
            else:
                yield Guess(str(path), error="not_an_image (the content is text/plain)")


def sort(source, destination, mode="copy", **options):
    return sort_dir(source, destination, SortOptions(mode=mode, **options), FakeClassifier())


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    os.utime(path, ns=(10**18 + 7, 10**18 + int(sha256(path.read_bytes()).hexdigest()[:6], 16)))
    return path


def files(folder, hidden=True):
    """{path below a folder: content} of its files."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in paths if hidden or not path.name.startswith(".")
    }


def contents(folder):
    return Counter(files(folder, hidden=False).values())


def state(folder):
    """Everything below a folder: contents, times and modes of files, and the folders."""
    return {
        str(path.relative_to(folder)): path.is_file()
        and (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in folder.rglob("*")
    }


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "sorted"


@pytest.fixture
def few(source):
    write(source / "one.jpg", "elsa 1")
    write(source / "deep" / "one.jpg", "darth-vader 2").chmod(0o640)
    write(source / "deep" / "deeper" / "one.jpg", "elsa 3")
    write(source / "who.png", "unknown 4")
    write(source / "notes.txt", "a list")
    return source


@pytest.fixture
def no_links_between(monkeypatch):
    """As if source and destination were on two file systems."""
    link = os.link

    def refuse(old, new, **options):
        if not str(old).endswith(".part"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(old, new, **options)

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def no_links(monkeypatch):
    """As if the file system knew no hard links."""

    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


SORTED = {
    "elsa/one.jpg": b"elsa 1",
    "elsa/one-2.jpg": b"elsa 3",
    "darth vader/one.jpg": b"darth-vader 2",
    "_unknown/who.png": b"unknown 4",
    "_error/notes.txt": b"a list",
}


def test_picture_of_several_candidates_goes_to_ambiguous(tmp_path):
    write(tmp_path / "in" / "both.jpg", "ambiguous picture")
    write(tmp_path / "in" / "one.jpg", "elsa picture")
    result = sort(tmp_path / "in", tmp_path / "out", coverage=0.9)
    assert (result["ambiguous"], result["sorted"]) == (1, {"elsa": 1, "darth vader": 0})
    assert set(files(tmp_path / "out", hidden=False)) == {"_ambiguous/both.jpg", "elsa/one.jpg"}


@pytest.mark.parametrize("mode", MODES)
def test_each_picture_goes_into_folder_of_its_label(mode, few, destination):
    result = sort(few, destination, mode)
    assert files(destination, hidden=False) == SORTED
    assert result == {
        "sorted": {"elsa": 2, "darth vader": 1},
        "unknown": 1,
        "ambiguous": 0,
        "errors": 1,
        "journal": str(destination / ".retrain-sort.jsonl"),
    }


@pytest.mark.parametrize("mode", MODES)
def test_undo_restores_everything(mode, few, destination):
    before = state(few)
    sort(few, destination, mode)
    assert undo_sort(destination) == {"restored": 5, "left": []}
    assert state(few) == before
    assert not destination.exists()


def test_copy_keeps_times_and_modes(few, destination):
    sort(few, destination)
    original, copy = (path.stat() for path in (few / "deep" / "one.jpg", destination / "darth vader" / "one.jpg"))
    assert (copy.st_mtime_ns, copy.st_mode, copy.st_nlink) == (original.st_mtime_ns, original.st_mode, 1)
    assert copy.st_ino != original.st_ino


def test_undo_restores_times_of_folders(few, destination):
    for number, folder in enumerate([few, few / "deep"]):
        os.utime(folder, ns=(1, 10**18 + number))
    sort(few, destination, "move")
    undo_sort(destination)
    assert [folder.stat().st_mtime_ns for folder in (few, few / "deep")] == [10**18, 10**18 + 1]


def test_undo_leaves_time_of_folder_that_was_changed_since(few, destination):
    sort(few, destination, "move")
    os.utime(few, ns=(1, 10**18))
    undo_sort(destination)
    assert few.stat().st_mtime_ns > 10**18


def test_move_leaves_source_folders_standing(few, destination):
    sort(few, destination, "move")
    assert set(state(few)) == {"deep", "deep/deeper"}


def test_link_is_second_name(few, destination):
    sort(few, destination, "link")
    assert (destination / "darth vader" / "one.jpg").samefile(few / "deep" / "one.jpg")


def test_flat_layout_names_by_guess(few, destination):
    sort(few, destination, layout="flat")
    assert files(destination, hidden=False) == {
        "elsa-0.99621.jpg": b"elsa 1",
        "elsa-0.99621-2.jpg": b"elsa 3",
        "darth vader-0.99621.jpg": b"darth-vader 2",
        "_unknown-0.99621.png": b"unknown 4",
        "_error-notes.txt": b"a list",
    }


@pytest.mark.parametrize("layout", ["folders", "flat"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_lost_or_overwritten_in_500_clashes(mode, layout, source, destination):
    for number in range(500):
        write(source / "a" / f"{number}.jpg", f"elsa a{number}")
        write(source / "b" / f"{number}.jpg", f"elsa b{number}" if number % 5 else "elsa the same")
    before = state(source)
    expected = contents(source)
    assert sort(source, destination, mode, layout=layout)["sorted"]["elsa"] == 1000
    assert contents(destination) == expected
    after = state(destination)
    assert sum(sort(source, destination, mode, layout=layout)["sorted"].values()) == 0
    assert state(destination) == after
    assert undo_sort(destination) == {"restored": 1000, "left": []}
    assert state(source) == before
    assert not destination.exists()


def test_what_stands_in_destination_is_never_overwritten(few, destination):
    theirs = write(destination / "elsa" / "one.jpg", "mine")
    sort(few, destination, "move")
    assert theirs.read_text() == "mine"
    assert (destination / "elsa" / "one-2.jpg").read_text() == "elsa 1"
    undo_sort(destination)
    assert files(destination) == {"elsa/one.jpg": b"mine"}


@pytest.mark.parametrize("mode", MODES)
def test_name_taken_this_moment_is_not_overwritten(mode, source, destination, monkeypatch):
    write(source / "one.jpg", "elsa 1")
    write(source / "one.xmp", "about 1")
    link, intruder = os.link, destination / "elsa" / "one.xmp"

    def link_late(old, new, **options):
        if Path(new) == intruder:
            intruder.write_text("mine")
        link(old, new, **options)

    monkeypatch.setattr(os, "link", link_late)
    sort(source, destination, mode)
    assert files(destination, hidden=False) == {
        "elsa/one.xmp": b"mine",
        "elsa/one-2.jpg": b"elsa 1",
        "elsa/one-2.xmp": b"about 1",
    }
    assert undo_sort(destination) == {"restored": 2, "left": []}
    assert files(destination) == {"elsa/one.xmp": b"mine"}


SIDECARS = ["one.xmp", "one.jpg.xmp", "one.json", "one.AAE", "one.THM", "one.cr2", "one.MOV"]


@pytest.mark.parametrize("mode", MODES)
def test_sidecars_go_with_their_picture(mode, source, destination):
    for folder, label in [("a", "elsa"), ("b", "elsa"), ("c", "darth-vader")]:
        write(source / folder / "one.jpg", f"{label} {folder}")
        for name in SIDECARS:
            write(source / folder / name, f"{name} of {folder}")
    before = state(source)
    result = sort(source, destination, mode)
    assert (result["sorted"], result["errors"]) == ({"elsa": 2, "darth vader": 1}, 0)
    filed = files(destination)
    for folder, stem in [("a", "elsa/one"), ("b", "elsa/one-2"), ("c", "darth vader/one")]:
        assert filed[f"{stem}.jpg"].decode().endswith(folder)
        assert all(filed[stem + name.removeprefix("one")].decode() == f"{name} of {folder}" for name in SIDECARS)
    assert undo_sort(destination)["restored"] == 3 * (1 + len(SIDECARS))
    assert state(source) == before


def test_clash_of_sidecar_renames_the_pair(source, destination):
    write(destination / "elsa" / "one.xmp", "mine")
    write(source / "one.jpg", "elsa 1")
    write(source / "one.xmp", "about 1")
    sort(source, destination)
    assert {"elsa/one.xmp", "elsa/one-2.jpg", "elsa/one-2.xmp"} == set(files(destination, hidden=False))


def test_name_too_long_for_a_number_is_cut_before_it(source, destination):
    long = "é" * 123
    for folder in "ab":
        write(source / folder / f"{long}.jpg", f"elsa {folder}")
        write(source / folder / f"{long}.jpg.xmp", f"about {folder}")
    assert sort(source, destination)["errors"] == 0
    names = {f"{long}.jpg", f"{long}.jpg.xmp", f"{long[:-1]}-2.jpg", f"{long[:-1]}-2.jpg.xmp"}
    assert set(files(destination, hidden=False)) == {f"elsa/{name}" for name in names}


def test_sidecar_follows_whole_name_before_stem(source, destination):
    write(source / "one.gif", "darth-vader 1")
    write(source / "one.jpg", "elsa 1")
    write(source / "one.jpg.json", "about the jpg")
    sort(source, destination)
    assert "elsa/one.jpg.json" in files(destination)


def test_sidecar_without_picture_is_an_error(source, destination):
    write(source / "a" / "one.mov", "film")
    write(source / "b" / "one.jpg", "elsa 1")
    assert sort(source, destination, "move")["errors"] == 1
    assert files(destination, hidden=False) == {"_error/one.mov": b"film", "elsa/one.jpg": b"elsa 1"}


@pytest.mark.parametrize("mode", MODES)
def test_undo_leaves_edited_file(mode, few, destination):
    sort(few, destination, mode)
    edited = destination / "elsa" / "one.jpg"
    edited.write_bytes(b"elsa retouched")
    assert undo_sort(destination) == {"restored": 4, "left": [{"path": str(edited), "reason": "it was changed since"}]}
    assert files(destination, hidden=False) == {"elsa/one.jpg": b"elsa retouched"}
    edited.write_bytes(b"elsa 1")
    assert undo_sort(destination) == {"restored": 1, "left": []}
    assert not destination.exists()


def test_undo_overwrites_nothing_at_old_place(few, destination):
    sort(few, destination, "move")
    write(few / "one.jpg", "new")
    result = undo_sort(destination)
    assert (result["restored"], [row["reason"] for row in result["left"]]) == (
        4,
        ["something else stands at its old place"],
    )
    assert (few / "one.jpg").read_text() == "new"
    assert (destination / "elsa" / "one.jpg").read_text() == "elsa 1"


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_undo_keeps_last_copy(mode, few, destination):
    sort(few, destination, mode)
    (few / "one.jpg").unlink()
    (result,) = undo_sort(destination)["left"]
    assert result == {"path": str(destination / "elsa" / "one.jpg"), "reason": "its original is gone or has changed"}
    assert files(destination, hidden=False) == {"elsa/one.jpg": b"elsa 1"}


def test_undo_lists_what_is_no_longer_there(few, destination):
    sort(few, destination, "move")
    (destination / "elsa" / "one.jpg").unlink()
    assert [row["reason"] for row in undo_sort(destination)["left"]] == ["it is no longer there"]


@pytest.mark.parametrize("mode", MODES)
def test_undo_never_removes_the_only_name_of_a_file(mode, source, destination):
    write(source / "elsa" / "one.jpg", "elsa 1")
    sort(source, destination, mode)
    shutil.rmtree(source)
    destination.rename(source)
    (result,) = undo_sort(source)["left"]
    assert result["path"] == str(source / "elsa" / "one.jpg")
    assert files(source, hidden=False) == {"elsa/one.jpg": b"elsa 1"}


def test_undo_through_link_to_source_removes_nothing(source, destination):
    write(source / "one.jpg", "elsa 1")
    sort(source, destination)
    shutil.rmtree(destination / "elsa")
    (destination / "elsa").symlink_to(source)
    assert len(undo_sort(destination)["left"]) == 1
    assert files(source) == {"one.jpg": b"elsa 1"}


def test_undo_makes_missing_source_folder_again(few, destination):
    before = files(few)
    sort(few, destination, "move")
    shutil.rmtree(few)
    undo_sort(destination)
    assert files(few) == before


def test_undo_takes_back_several_runs(few, destination, tmp_path):
    other = tmp_path / "other"
    write(other / "one.jpg", "elsa 5")
    before = state(few), state(other)
    sort(few, destination, "move")
    sort(other, destination, "link")
    assert undo_sort(destination) == {"restored": 6, "left": []}
    assert (state(few), state(other)) == before


def test_undo_removes_only_folders_it_made(few, tmp_path):
    destination = tmp_path / "new" / "deep" / "sorted"
    (tmp_path / "new").mkdir()
    sort(few, destination)
    undo_sort(destination)
    assert list((tmp_path / "new").iterdir()) == []


def test_undo_without_journal_is_refused(tmp_path):
    with pytest.raises(RetrainError, match="nothing was sorted"):
        undo_sort(tmp_path)


def test_second_run_sorts_only_what_is_new(few, destination):
    sort(few, destination)
    before = files(destination)
    os.utime(few / "who.png")
    assert sort(few, destination)["sorted"] == {"elsa": 0, "darth vader": 0}
    assert files(destination) == before
    write(few / "one.jpg", "elsa edited")
    write(few / "two.jpg", "elsa two")
    assert sort(few, destination)["sorted"]["elsa"] == 2
    assert files(destination, hidden=False) == SORTED | {"elsa/one-3.jpg": b"elsa edited", "elsa/two.jpg": b"elsa two"}


def test_edited_file_that_is_linked_is_not_sorted_again(few, destination):
    sort(few, destination, "link")
    (few / "one.jpg").write_bytes(b"elsa edited, here and there")
    before = files(destination)
    sort(few, destination, "link")
    assert files(destination) == before


def test_file_moved_to_other_label_by_hand_is_not_sorted_again(few, destination):
    sort(few, destination)
    (destination / "elsa" / "one.jpg").rename(destination / "darth vader" / "she.jpg")
    before = files(destination)
    sort(few, destination)
    assert files(destination) == before


def test_file_deleted_from_destination_is_sorted_again(few, destination):
    sort(few, destination)
    shutil.rmtree(destination / "elsa")
    assert sort(few, destination)["sorted"]["elsa"] == 2
    assert files(destination, hidden=False) == SORTED


@pytest.mark.parametrize("layout", ["folders", "flat"])
def test_dry_run_changes_nothing_and_tells_what_would_be(layout, few, destination, tmp_path):
    before = state(tmp_path)
    result = sort(few, destination, layout=layout, dry_run=True)
    assert state(tmp_path) == before
    plan = {row["destination"]: Path(row["source"]).read_bytes() for row in result.pop("plan")}
    assert sort(few, destination, layout=layout) == result
    assert {str(destination / name): content for name, content in files(destination, hidden=False).items()} == plan


def die_at(step, action):
    """Run an action in a process that kills itself before that step.  Returns whether it came so far."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = step

    def hook(event, _):
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    try:
        action()
    finally:
        os._exit(0)


@pytest.fixture(params=[*MODES, "move between file systems", "move without links"])
def mode_anywhere(request, monkeypatch):
    """Each mode, with a small batch, and moves where they cannot be done by links."""
    monkeypatch.setattr(sorting, "BATCH", 2)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill takes nothing that was written
    if "between" in request.param:
        request.getfixturevalue("no_links_between")
    if "without" in request.param:
        request.getfixturevalue("no_links")
    return request.param.split()[0]


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    write(folder / "source" / "a" / "one.jpg", "elsa 1")
    write(folder / "source" / "a" / "one.xmp", "about 1")
    write(folder / "source" / "b" / "one.jpg", "elsa 2")
    write(folder / "source" / "two.jpg", "unknown 3")
    return folder / "source", folder / "sorted"


def assert_whole(source, destination, originals):
    """Every original is somewhere in one piece, and nothing else is to be seen but a name just claimed."""
    found = contents(source) + contents(destination)
    assert set(originals) <= set(found) <= {*originals, b""}


@pytest.mark.parametrize("then", ["resume", "undo"])
def test_kill_at_any_step_of_sorting_loses_nothing(mode_anywhere, then, tmp_path):
    for step in count(1):
        source, destination = fresh(tmp_path / "trial")
        before, originals = state(source), contents(source)
        killed = die_at(step, lambda: sort(source, destination, mode_anywhere))  # noqa: B023 - called at once
        assert_whole(source, destination, originals)
        if then == "resume":
            sort(source, destination, mode_anywhere)
            assert contents(destination) - Counter([b""]) == originals
            assert contents(source) == (Counter() if mode_anywhere == "move" else originals)
        if (destination / journal.NAMES["sort"]).exists():
            assert undo_sort(destination)["left"] == []
        assert state(source) == before
        assert set(files(destination).values()) <= {b""}
        if not killed:
            break
    assert step > 15


def test_kill_at_any_step_of_undo_loses_nothing(mode_anywhere, tmp_path):
    for step in count(1):
        source, destination = fresh(tmp_path / "trial")
        before, originals = state(source), contents(source)
        sort(source, destination, mode_anywhere)
        killed = die_at(step, lambda: undo_sort(destination))  # noqa: B023 - called at once
        assert_whole(source, destination, originals)
        for path in source.rglob("*"):
            if path.is_file() and not path.stat().st_size:
                path.unlink()  # a name claimed, where there are no links
        if (destination / journal.NAMES["sort"]).exists():
            assert undo_sort(destination)["left"] == []
        assert state(source) == before
        assert files(destination) == {}
        if not killed:
            break
    assert step > 15


def test_torn_last_line_is_forgotten(few, destination):
    sort(few, destination, "move")
    path = destination / journal.NAMES["sort"]
    with path.open("ab") as stream:
        stream.write(b'{"files": [{"source": "/x')
    write(few / "two.jpg", "elsa two")
    sort(few, destination, "move")
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert undo_sort(destination) == {"restored": 6, "left": []}


@pytest.mark.parametrize("content", ["", '{"tool": "ret'])
def test_torn_header_is_written_anew(content, few, destination):
    write(destination / journal.NAMES["sort"], content)
    sort(few, destination)
    assert undo_sort(destination)["restored"] == 5


@pytest.mark.parametrize(
    "content",
    [
        "not ours",
        '{"tool": "retrain sort", "version": 2}\n',
        '{"tool": "retrain sort", "version": 1}\n{"files": [1]}\n{}\n',
    ],
)
def test_foreign_journal_is_refused(content, few, destination):
    write(destination / journal.NAMES["sort"], content)
    for dry_run in (True, False):
        with pytest.raises(RetrainError, match=r"retrain-sort\.jsonl"):
            sort(few, destination, dry_run=dry_run)
    with pytest.raises(RetrainError):
        undo_sort(destination)
    assert files(destination) == {journal.NAMES["sort"]: content.encode()}


@pytest.mark.parametrize(("inner", "outer"), [("source", "source"), ("source/in", "source"), ("source", ".")])
def test_folders_within_one_another_are_refused(inner, outer, few, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for one, other in [(inner, outer), (outer, inner)]:
        for base in (tmp_path, tmp_path / "link"):
            with pytest.raises(RetrainError):
                sort(tmp_path / one, base / other)
    assert not list(tmp_path.rglob(journal.NAMES["sort"]))


@pytest.mark.parametrize("options", [{"mode": "mv"}, {"layout": "tree"}])
def test_unknown_option_is_refused(options, few, destination):
    with pytest.raises(RetrainError, match="there is no"):
        sort(few, destination, **options)


def test_source_and_destination_must_be_folders(few, destination, tmp_path):
    file = write(tmp_path / "file", "text")
    for one, other in [(tmp_path / "none", destination), (file, destination), (few, file), (few, file / "below")]:
        with pytest.raises(RetrainError) as caught:
            sort(one, other)
        assert caught.value.hint
    assert not destination.exists()


def test_destination_must_be_writable(ordinary_user):
    source, destination = ordinary_user / "source", ordinary_user / "sorted"
    write(source / "one.jpg", "elsa 1")
    destination.mkdir(mode=0o500)
    for folder in (destination, destination / "new"):
        with pytest.raises(RetrainError, match="Permission denied"):
            sort(source, folder)


def test_picture_that_cannot_be_read_or_moved_stays(ordinary_user):
    source, destination = ordinary_user / "source", ordinary_user / "sorted"
    write(source / "locked" / "one.jpg", "elsa 1").parent.chmod(0o500)
    write(source / "two.jpg", "elsa 2")
    write(source / "two.xmp", "about 2").chmod(0)
    assert sort(source, destination, "move")["errors"] == 2
    assert {path.name for path in source.rglob("*.*")} == {"one.jpg", "two.jpg", "two.xmp"}
    assert files(destination, hidden=False) == {}


def test_folder_of_label_that_is_a_file_is_an_error_of_its_pictures(few, destination):
    write(destination / "elsa", "a file")
    result = sort(few, destination, "move")
    assert (result["sorted"]["elsa"], result["errors"]) == (0, 3)
    assert files(few).keys() == {"one.jpg", "deep/deeper/one.jpg"}


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_full_disk_ends_with_nothing_lost(mode, few, destination, monkeypatch, no_links_between):
    before, left = contents(few), 3

    def copyfile(old, new):
        nonlocal left
        left -= 1
        Path(new).write_bytes(Path(old).read_bytes()[: None if left else 2])
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(RetrainError, match="No space left") as caught:
        sort(few, destination, mode)
    assert "goes on where it stopped" in caught.value.hint
    assert_whole(few, destination, before)
    assert not list(destination.rglob("*.part"))
    sort(few, destination, mode)
    assert contents(destination) == before


@contextmanager
def files_up_to(size):
    """Within this a write beyond that size falls short, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_journal_that_cannot_grow_ends_with_nothing_lost(few, destination):
    before = contents(few)
    with files_up_to(700), pytest.raises(RetrainError, match=r"No space left|too large"):
        sort(few, destination, "move")
    assert_whole(few, destination, before)
    sort(few, destination, "move")
    assert contents(destination) == before


def test_line_that_fell_short_does_not_damage_the_journal(destination):
    with journal.Journal.open(destination) as opened:
        with files_up_to(opened.path.stat().st_size + 5), pytest.raises(OSError, match="No space left"):
            opened.make_folder("one")
        opened.make_folder("two")
    assert journal.Journal(destination).folders == [".", "two"]


@pytest.mark.parametrize("mode", MODES)
def test_interrupt_leaves_each_file_in_one_place(mode, few, destination):
    class Interrupted(FakeClassifier):
        def guess_files(self, paths):
            yield from list(super().guess_files(paths))[:3]
            raise KeyboardInterrupt

    before = contents(few)
    with pytest.raises(KeyboardInterrupt):
        sort_dir(few, destination, SortOptions(mode=mode), Interrupted())
    assert sum(contents(destination).values()) == 3
    assert contents(few) == (before - contents(destination) if mode == "move" else before)


def test_hard_links_across_file_systems_name_the_other_mode(few, destination, no_links_between):
    with pytest.raises(RetrainError) as caught:
        sort(few, destination, "link")
    assert "--mode copy" in caught.value.hint


def test_move_between_file_systems_is_exact(few, destination, no_links_between):
    before = state(few)
    sort(few, destination, "move")
    assert files(few) == {}
    assert files(destination, hidden=False) == SORTED
    undo_sort(destination)
    assert state(few) == before


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_without_hard_links_nothing_is_overwritten_either(mode, few, destination, no_links, monkeypatch):
    replace, claimed = Path.replace, []
    monkeypatch.setattr(Path, "replace", lambda old, new: claimed.append(new.read_bytes()) or replace(old, new))
    sort(few, destination, mode)
    assert files(destination, hidden=False) == SORTED
    assert claimed == [b""] * len(SORTED)


def test_everything_is_on_the_disk_before_a_source_is_removed(few, destination, monkeypatch, no_links_between):
    fsync, unlink, synced, removed = os.fsync, Path.unlink, set(), []

    def sync(handle):
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def remove(path, **options):
        if path.is_relative_to(few):
            removed.append(path)
            assert {path.stat().st_ino for path in [destination, *destination.rglob("*")]} <= synced
        unlink(path, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "unlink", remove)
    sort(few, destination, "move")
    assert len(removed) == 5


def test_file_changed_while_it_moves_is_kept(few, destination, monkeypatch, no_links_between):
    copystat = shutil.copystat

    def change(old, new):
        copystat(old, new)
        if Path(old) == few / "one.jpg":
            Path(old).write_bytes(b"elsa retouched")

    monkeypatch.setattr(shutil, "copystat", change)
    assert sort(few, destination, "move")["errors"] == 2
    assert files(few) == {"one.jpg": b"elsa retouched"}
    assert files(destination, hidden=False) == SORTED


def test_source_that_cannot_be_removed_stays_alone(few, destination, monkeypatch):
    unlink = Path.unlink

    def refuse(path, **options):
        if path == few / "one.jpg":
            raise OSError(errno.EACCES, "Permission denied")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert sort(few, destination, "move")["errors"] == 2
    assert files(few) == {"one.jpg": b"elsa 1"}
    assert "elsa/one.jpg" not in files(destination)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_a_regular_file_stays(mode, few, destination):
    os.mkfifo(few / "pipe")
    (few / "dangling").symlink_to(few / "nowhere")
    assert sort(few, destination, mode)["errors"] == 3
    assert {"pipe", "dangling"} <= {path.name for path in few.iterdir()}
    assert files(destination, hidden=False) == SORTED


def test_links_in_source_are_followed_and_never_moved(few, destination, tmp_path):
    elsewhere = write(tmp_path / "elsewhere" / "far.jpg", "elsa far").parent
    (few / "far").symlink_to(elsewhere)
    (few / "near.jpg").symlink_to(few / "one.jpg")
    assert sort(few, destination)["sorted"]["elsa"] == 4
    assert not any(path.is_symlink() for path in destination.rglob("*"))
    undo_sort(destination)
    assert sort(few, destination, "link")["sorted"]["elsa"] == 4
    assert (destination / "elsa" / "near.jpg").samefile(few / "one.jpg")
    undo_sort(destination)
    assert sort(few, destination, "move")["errors"] == 3
    assert files(elsewhere) == {"far.jpg": b"elsa far"}
    assert (few / "near.jpg").is_symlink()
    undo_sort(destination)
    assert (few / "near.jpg").read_text() == "elsa 1"


def test_second_process_is_refused(few, destination):
    with journal.Journal.open(destination), pytest.raises(RetrainError, match="another retrain sort"):
        sort(few, destination)


def test_destination_is_known_as_our_own(few, destination):
    sort(few, destination)
    assert is_own(destination)


def test_hostile_labels_get_safe_folders():
    labels = [
        "a/b",
        "a:b",
        "..",
        ".git",
        "_unknown",
        "CON",
        "com1.x",
        "nul\0",
        " ",
        "A",
        "a",
        "x" * 300,
        "-rf",
        "エルサ",
        "c++",
    ]
    names = folder_names(labels)
    assert names["a/b"] == "a_b"
    assert names["a:b"] == "a_b-2"
    assert (names["_unknown"], names[".git"], names[".."], names["CON"]) == (
        "label_unknown",
        "label.git",
        "label",
        "CON-",
    )
    assert all(names[label] == label for label in ("A", "-rf", "エルサ", "c++"))
    assert names["a"] == "a-2"  # a second folder where cases are not told apart


@given(st.lists(st.text(), unique=True))
def test_folder_names_are_safe_and_unlike(labels):
    names = [os.fsencode(name) for name in folder_names(labels).values()]
    assert len({name.lower() for name in names}) == len(labels)
    for name in names:
        assert 0 < len(name) < 256
        assert not set(name) & set(b'\0\n/\\:*?"<>|')
        assert name[:1] not in b"._"
        assert name[-1:] not in b". "


NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 47} and not name.startswith(b"."))
ENDINGS = st.sampled_from([b"", b".jpg", b".xmp", b".JPG.xmp", b".mov", b"\n.jpg", b"-2.jpg"])
HOSTILE = st.builds(lambda name, ending: name[: 255 - len(ending)] + ending, NAMES | st.just(b"-rf \xff"), ENDINGS)
LABELS = st.sampled_from(["elsa", "darth-vader", "unknown", "no"])


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.tuples(st.sampled_from([b"a", b"b", b"\xfe c"]), HOSTILE), LABELS, min_size=1, max_size=8),
    st.sampled_from(MODES),
    st.sampled_from(["folders", "flat"]),
)
def test_hostile_names_come_through(tmp_path_factory, names, mode, layout):
    folder = tmp_path_factory.mktemp("hostile")
    source, destination = folder / "source", folder / "sorted"
    for number, ((parent, name), label) in enumerate(names.items()):
        write(source / os.fsdecode(parent) / os.fsdecode(name), f"{label} {number}")
    before, expected = state(source), contents(source)
    sort(source, destination, mode, layout=layout)
    # In the flat layout a name may grow beyond what the file system takes: that file stays.
    found = contents(destination) + (contents(source) if mode == "move" else Counter())
    assert found <= expected
    assert found == expected or layout == "flat"
    assert undo_sort(destination)["left"] == []
    assert state(source) == before
    assert not destination.exists()


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr("retrain.recipes.sorting.Classifier.load", lambda *_, **__: FakeClassifier())
    return lambda *arguments: CliRunner().invoke(command, list(map(str, arguments)))


def test_command_prints_table_and_how_to_undo(run, few, destination):
    result = run(few, destination)
    assert result.stdout.splitlines() == [
        "elsa              2",
        "darth vader       1",
        "unknown           1",
        "errors            1",
        f"Undo: retrain sort --undo {destination}",
    ]
    assert result.exit_code == 3
    assert "1 file(s) failed" in result.stderr


def test_command_prints_json(run, few, destination):
    (few / "notes.txt").unlink()
    result = run(few, destination, "--mode", "move", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["sorted"] == {"elsa": 2, "darth vader": 1}
    assert json.loads(run("--undo", destination, "--json").stdout) == {"restored": 4, "left": []}


def test_command_undo_exits_with_3_where_it_left_files(run, few, destination):
    run(few, destination)
    (destination / "elsa" / "one.jpg").write_text("edited")
    result = run("--undo", destination)
    assert result.exit_code == 3
    assert f"{destination}/elsa/one.jpg: it was changed since" in result.stdout


def test_command_dry_run_prints_plan(run, few, destination):
    result = run(few, destination, "--dry-run")
    assert f"{few}/who.png -> {destination}/_unknown/who.png" in result.stdout
    assert "--undo" not in result.stdout
    assert not destination.exists()


def test_command_undo_takes_nothing_else(run, few, destination):
    run(few, destination)
    for more in ([few], ["--dry-run"], ["--mode", "copy"]):
        assert run("--undo", destination, *more).exit_code == 2
    assert run(few).exit_code == run().exit_code == 2
    assert files(destination, hidden=False) == SORTED


def test_class_keeps_the_name_that_it_has_there_in_whatever_encoding():
    composed, taken_apart = "caf\u00e9", "cafe\u0301"
    assert class_names([composed, "tea"], [taken_apart]) == {composed: taken_apart, "tea": "tea"}
    assert class_names(["a/b"], []) == folder_names(["a/b"])


@pytest.mark.parametrize("labels", [["Cat", "cat"], ["caf\u00e9", "cafe\u0301"]])
def test_classes_that_one_folder_would_hold_are_refused(labels):
    with pytest.raises(RetrainError, match="differ by case or"):
        class_names(labels, [])
