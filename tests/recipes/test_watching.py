import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from retrain.errors import RetrainError
from retrain.options import SortOptions
from retrain.recipes import watching
from retrain.recipes.sorting import sort_dir, undo_sort
from retrain.recipes.watching import watch_dir
from tests.recipes.test_sorting import FakeClassifier, files, write

pytest.importorskip("watchdog")

DEADLINE_S = 60


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Waits that are long beside a test's own steps, and short for whoever runs it."""
    for name, seconds in {"SETTLE_S": 0.3, "STILL_S": 0.6, "LONE_S": 1.0, "LOOK_S": 0.5, "TICK_S": 0.02}.items():
        monkeypatch.setattr(watching, name, seconds)


@contextmanager
def watched(source, destination, **options):
    """Watch in a thread; what was told so far, and in the end the result."""
    told, stop, results = [], threading.Event(), []

    def run():
        try:
            results.append(watch_dir(source, destination, SortOptions(**options), stop, told.append, FakeClassifier()))
        except RetrainError as error:
            results.append(error)

    source.mkdir(exist_ok=True)
    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: results or list(destination.glob(".retrain-sort.jsonl")))
    try:
        yield told, results
    finally:
        stop.set()
        thread.join()


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "this never came"
        time.sleep(0.01)


def filed(folder):
    return set(files(folder, hidden=False))


@pytest.mark.parametrize("mode", ["copy", "move", "link"])
def test_what_is_there_and_what_arrives_is_sorted_and_undone(tmp_path, mode):
    source, out = tmp_path / "in", tmp_path / "out"
    write(source / "a.jpg", "elsa 1")
    with watched(source, out, mode=mode) as (told, results):
        wait_for(lambda: filed(out) == {"elsa/a.jpg"})
        write(source / "b.jpg", "darth-vader 2")
        write(source / "c.jpg", "unknown 3")
        write(source / "d.jpg", "broken")
        expected = {"elsa/a.jpg", "darth vader/b.jpg", "_unknown/c.jpg", "_error/d.jpg"}
        wait_for(lambda: len(told) == 4)
    assert filed(out) == expected
    assert {row["destination"] for row in told} == {str(out / name) for name in expected}
    assert [row["path"] for row in told if row["error"]] == [str(source / "d.jpg")]
    assert results[0] == {
        "sorted": {"elsa": 1, "darth vader": 1}, "unknown": 1, "ambiguous": 0, "errors": 1,
        "journal": str(out / ".retrain-sort.jsonl"),
    }  # fmt: skip
    assert len(filed(source)) == (0 if mode == "move" else 4)
    assert undo_sort(out) == {"restored": 4, "left": []}
    assert filed(source) == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}
    assert not out.exists()


def test_each_filing_is_safe_on_the_disk_soon(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out, mode="move"):
        write(source / "a.jpg", "elsa 1")
        wait_for(lambda: (out / ".retrain-sort.jsonl").read_text().count('"done"'))
        assert not filed(source)


def test_file_still_being_written_waits_for_its_end(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (told, _):
        with open(source / "slow.jpg", "wb") as file:
            file.write(b"els")
            file.flush()
            for name in ("first.jpg", "second.jpg"):  # long enough for others to come and go
                write(source / name, "elsa " + name)
                wait_for(lambda name=name: f"elsa/{name}" in filed(out))
                file.write(b"a")
                file.flush()
            time.sleep(3 * watching.STILL_S)
            assert filed(out) == {"elsa/first.jpg", "elsa/second.jpg"}
            file.seek(0)
            file.write(b"elsa whole")
        wait_for(lambda: len(told) == 3)
    assert (out / "elsa" / "slow.jpg").read_bytes() == b"elsa whole"


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="the system does not tell who writes")
def test_file_that_was_being_written_before_the_watch_waits_for_its_end(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    slow = write(source / "slow.jpg", "els")
    with open(slow, "r+b") as file, watched(source, out, mode="move") as (told, _):
        write(source / "other.jpg", "elsa other")
        wait_for(lambda: told)
        time.sleep(3 * watching.STILL_S)
        assert filed(out) == {"elsa/other.jpg"}
        file.write(b"elsa whole")
        file.close()
        wait_for(lambda: len(told) == 2)
    assert (out / "elsa" / "slow.jpg").read_bytes() == b"elsa whole"


@pytest.mark.parametrize("unfinished", ["a.jpg.part", "a.jpg.crdownload", "a.tmp", ".a.jpg.x7Qz"])
def test_unfinished_download_waits_for_its_name(tmp_path, unfinished):
    source, out = tmp_path / "in", tmp_path / "out"
    write(source / unfinished, "elsa")
    with watched(source, out) as (told, _):
        write(source / "other.jpg", "elsa other")
        wait_for(lambda: told)
        assert filed(out) == {"elsa/other.jpg"}
        (source / unfinished).rename(source / "a.jpg")
        wait_for(lambda: len(told) == 2)
    assert filed(out) == {"elsa/other.jpg", "elsa/a.jpg"}


def test_name_kept_free_by_an_empty_file_is_no_picture_yet(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (told, _):
        (source / "a.jpg").touch()
        write(source / "a.jpg.part", "elsa whole")
        write(source / "other.jpg", "elsa other")
        wait_for(lambda: told)
        (source / "a.jpg.part").replace(source / "a.jpg")
        wait_for(lambda: len(told) == 2)
    assert files(out, hidden=False) == {"elsa/a.jpg": b"elsa whole", "elsa/other.jpg": b"elsa other"}


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_sidecars_go_with_their_picture_whichever_comes_first(tmp_path, mode):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out, mode=mode) as (told, _):
        for name, content in [("a.mov", "film"), ("a.heic", "elsa"), ("a.xmp", "stars")]:
            write(source / name, content)
        wait_for(lambda: told)
        assert filed(out) == {"elsa/a.heic", "elsa/a.mov", "elsa/a.xmp"}
        write(source / "b.heic", "darth-vader")
        wait_for(lambda: len(told) == 2)
        write(source / "b.aae", "edits")  # long after
        write(source / "b.heic.json", "told")
        wait_for(lambda: len(told) == 4)
    assert {name for name in filed(out) if "b" in name} == {
        f"darth vader/b.{end}" for end in ("heic", "aae", "heic.json")
    }


def test_sidecar_without_a_picture_is_filed_after_a_while(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (told, _):
        write(source / "alone.xmp", "stars")
        wait_for(lambda: told)
    assert filed(out) == {"_error/alone.xmp"}


def test_new_folders_are_watched(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (told, _):
        write(source / "one" / "two" / "a.jpg", "elsa a")
        write(tmp_path / "elsewhere" / "three" / "b.jpg", "elsa b")
        (tmp_path / "elsewhere").rename(source / "moved in")
        wait_for(lambda: len(told) == 2)
        write(source / "moved in" / "three" / "c.jpg", "elsa c")
        write(source / ".hidden" / "d.jpg", "elsa d")
        shutil.copytree(out, source / "sorted")  # our own work
        wait_for(lambda: len(told) == 3)
        write(source / "e.jpg", "elsa e")
        wait_for(lambda: len(told) == 4)
    assert filed(out) == {f"elsa/{name}.jpg" for name in "abce"}


def test_what_no_event_tells_of_is_found(tmp_path, monkeypatch):
    @contextmanager
    def silent(_folder, _events):
        yield False

    monkeypatch.setattr(watching, "_observed", silent)
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (told, _):
        write(source / "deep" / "a.jpg", "elsa")
        wait_for(lambda: told)
    assert filed(out) == {"elsa/a.jpg"}


def test_folder_that_the_kernel_cannot_watch_is_looked_over(tmp_path, monkeypatch, caplog):
    def full(_self, *_arguments, **_options):
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("watchdog.observers.api.BaseObserver.schedule", full)
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (told, _):
        write(source / "a.jpg", "elsa")
        wait_for(lambda: told)
    assert "inotify watch limit reached" in caplog.text


def test_file_gone_before_its_turn_is_no_error(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (told, results):
        write(source / "gone.jpg", "elsa 1").unlink()
        write(source / "old.jpg", "elsa 2").rename(source / "new.jpg")
        wait_for(lambda: told)
        time.sleep(3 * watching.STILL_S)
    assert filed(out) == {"elsa/new.jpg"}
    assert results[0]["errors"] == 0


def test_restart_sorts_nothing_twice(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    write(source / "a.jpg", "elsa 1")
    sort_dir(source, out, SortOptions(), FakeClassifier())
    with watched(source, out) as (told, _):
        write(source / "b.jpg", "elsa 2")
        wait_for(lambda: told)
        os.utime(source / "a.jpg")  # other times, the same content
        os.utime(source / "b.jpg")
        write(source / "c.jpg", "elsa 3")
        wait_for(lambda: len(told) == 2)
    assert filed(out) == {"elsa/a.jpg", "elsa/b.jpg", "elsa/c.jpg"}
    with watched(source, out) as (told, _):
        write(source / "d.jpg", "elsa 4")
        wait_for(lambda: told)
    assert [row["path"] for row in told] == [str(source / "d.jpg")]


def test_file_that_cannot_be_filed_is_a_line_and_no_end(tmp_path, caplog):
    source, out = tmp_path / "in", tmp_path / "out"
    photo = write(tmp_path / "photo.jpg", "elsa 1")
    with watched(source, out, mode="move") as (told, results):
        (source / "link.jpg").symlink_to(photo)
        wait_for(lambda: told)
        write(source / "a.jpg", "elsa 2")
        wait_for(lambda: len(told) == 2)
    assert (told[0]["path"], told[0]["destination"]) == (str(source / "link.jpg"), None)
    assert "link.jpg stays where it is" in caplog.text
    assert results[0]["errors"] == 1
    assert photo.exists()


def test_names_are_kept_apart_in_the_flat_layout(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out, layout="flat") as (told, _):
        for name in ("a", "b"):
            write(source / f"{name}.jpg", f"elsa {name}")
            wait_for(lambda name=name: len(told) == "ab".index(name) + 1)
        write(source / "b.xmp", "stars")
        wait_for(lambda: len(told) == 3)
    assert filed(out) == {"elsa-0.99621.jpg", "elsa-0.99621-2.jpg", "elsa-0.99621-2.xmp"}


def test_second_watch_and_undo_are_refused_meanwhile(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out):
        with pytest.raises(RetrainError, match="another retrain sort is at work"):
            watch_dir(source, out, SortOptions(), threading.Event(), classifier=FakeClassifier())
        with pytest.raises(RetrainError, match="another retrain sort is at work"):
            undo_sort(out)


def test_source_that_goes_away_is_an_error(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    with watched(source, out) as (_, results):
        source.rmdir()
        wait_for(lambda: results)
    assert isinstance(results[0], RetrainError)
    assert "is gone" in str(results[0])


def test_missing_watchdog_is_an_error_with_a_hint(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchdog.observers", None)
    with pytest.raises(RetrainError, match="needs watchdog") as caught:
        watch_dir(tmp_path / "in", tmp_path / "out", SortOptions(), threading.Event(), classifier=FakeClassifier())
    assert "retrain[watch]" in caught.value.hint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_ends_with_the_counts_when_asked(model_dir, sample, tmp_path, number):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    words = "from retrain.cli import main; main()", "sort", source, out, "--watch", "--json", "--model-dir", model_dir
    with subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.PIPE, text=True) as process:
        shutil.copy(next((sample / "sun").iterdir()), source / "a.jpg")
        row = json.loads(process.stdout.readline())
        process.send_signal(number)
        result = json.loads(process.stdout.read())
    assert row["path"] == str(source / "a.jpg")
    assert row["error"] is None
    assert process.returncode == 0
    assert sum(result["sorted"].values()) + result["unknown"] == 1
    assert undo_sort(out)["restored"] == 1
