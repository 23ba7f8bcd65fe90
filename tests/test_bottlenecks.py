import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from retrain import bottlenecks
from retrain.bottlenecks import Store, embed_files


class Colors:
    """A backbone whose embedding is a picture's mean colour.  seen counts the pictures embedded."""

    def __init__(self, name="colors", scale=1.0):
        self.fingerprint, self.scale, self.seen = name, scale, 0
        self.spec = SimpleNamespace(name=name, embedding_size=3)

    def to_input(self, image):
        return np.asarray(image)

    def embed(self, images):
        self.seen += len(images)
        return images.mean(axis=(1, 2), dtype=np.float32) * np.float32(self.scale)


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, "retrain")
    return caplog


@pytest.fixture
def photos(sample, tmp_path):
    """A folder of ten different pictures."""
    shutil.copytree(sample / "tree", tmp_path / "photos")
    return sorted((tmp_path / "photos").iterdir())[:10]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bottlenecks.sqlite"


def embed(paths, path, *backbones):
    with Store(path) as store:
        return embed_files(paths, backbones or [Colors()], store)


def test_everything_is_computed_once(photos, path):
    first, again = embed(photos, path), embed(photos, path)
    assert (first.computed, again.computed) == (10, 0)
    assert first.kept == again.kept == list(range(10))
    assert first.digests == again.digests
    assert np.array_equal(first.embeddings[0], again.embeddings[0])
    assert first.embeddings[0].shape == (10, 3)


def test_gpu_embeds_many_pictures_at_once(photos, path, monkeypatch):
    expected, batches = embed(photos, None).embeddings[0], []

    def on_gpu(images):
        batches.append(len(images))
        return Colors().embed(images)

    def to_small(self, image):
        return np.asarray(image.resize((32, 32), reducing_gap=None))

    photos.insert(4, photos[0].with_name("broken.jpg"))
    photos[4].write_bytes(b"none")
    monkeypatch.setattr(Colors, "to_input", to_small)
    monkeypatch.setattr(bottlenecks, "AT_ONCE", 4)
    monkeypatch.setattr(bottlenecks, "open_embedder", lambda backbone, pictures: on_gpu if pictures == 11 else None)
    first, again = embed(photos, path), embed(photos, path)
    assert batches == [4, 3, 3]  # the broken one is among the second four
    assert [number for number in range(11) if number not in first.kept] == [4]
    assert np.abs(first.embeddings[0] - expected).max() < 1
    assert (first.computed, again.computed) == (10, 0)
    assert np.array_equal(first.embeddings[0], again.embeddings[0])
    on_cpu = embed(photos[:4], path)  # half precision and full are not mixed
    assert on_cpu.computed == 4


def test_known_file_is_not_read_again(photos, path, monkeypatch):
    embed(photos, path)
    monkeypatch.setattr(bottlenecks, "read", None)
    assert len(embed(photos, path).kept) == 10


def test_renamed_files_and_folder_compute_nothing(photos, path):
    expected = embed(photos, path).embeddings[0]
    photos[0].rename(photos[0].with_name("zzz.jpg"))
    photos[0].parent.rename(photos[0].parent.with_name("renamed"))
    renamed = [photos[0].parent.with_name("renamed") / name for name in ["zzz.jpg", *[p.name for p in photos[1:]]]]
    again = embed(renamed, path)
    assert again.computed == 0
    assert np.array_equal(again.embeddings[0], expected)


def test_changed_file_is_computed_again_and_no_other(photos, path):
    before = embed(photos, path).embeddings[0]
    shutil.copy(photos[1], photos[0])
    photos[1].write_bytes(photos[1].read_bytes() + b"more")
    after = embed(photos, path)
    assert after.computed == 1  # the copy is known by its content
    assert np.array_equal(after.embeddings[0][0], before[1])
    assert np.array_equal(after.embeddings[0][2:], before[2:])


def test_store_remembers_what_was_tested_a_share(path):
    with Store(path) as store:
        assert store.tested(0.1) == {}
        store.note_tested(0.1, {b"a": True, b"b": False})
        store.note_tested(0.2, {b"a": False})
    with Store(path) as store:
        store.note_tested(0.1, {b"b": True, b"c": False})
        assert store.tested(0.1) == {b"a": True, b"b": True, b"c": False}
        assert store.tested(0.2) == {b"a": False}


def test_store_in_memory_remembers_no_test():
    with Store(None) as store:
        store.note_tested(0.1, {b"a": True})
        assert store.tested(0.1) == {}


def test_touched_file_is_read_and_not_computed(photos, path):
    embed(photos, path)
    os.utime(photos[0], ns=(1, 1))
    assert embed(photos, path).computed == 0


def test_backbones_have_embeddings_of_their_own(photos, path):
    one, two = Colors("one"), Colors("two", scale=2.0)
    embed(photos, path, one)
    both = embed(photos, path, one, two)
    assert np.array_equal(both.embeddings[0] * 2, both.embeddings[1])
    assert embed(photos, path, two).computed == 0


def test_backbone_added_later_computes_its_own_embeddings_alone(photos, path):
    first, added = Colors("first"), Colors("added", scale=2)
    expected = embed(photos, path, first).embeddings[0]
    both = embed(photos, path, first, added)
    assert (first.seen, added.seen) == (10, 10)
    assert np.array_equal(both.embeddings[0], expected)
    assert np.array_equal(both.embeddings[1], 2 * expected)


def test_two_backbones_decode_once(photos, path, monkeypatch):
    decoded = []
    monkeypatch.setattr(bottlenecks, "decode", lambda data, real=bottlenecks.decode: decoded.append(1) or real(data))
    embed(photos, path, Colors("one"), Colors("two"))
    assert len(decoded) == 10


def test_bad_files_are_rows_in_order(photos, path, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("words")
    (tmp_path / "folder.jpg").mkdir()
    bad = [tmp_path / name for name in ("empty.jpg", "text.jpg", "folder.jpg", "gone.jpg")]
    files = [bad[0], photos[0], bad[1], bad[2], photos[1], bad[3]]
    found = embed(files, path)
    assert found.kept == [1, 4]
    assert [(name, error.reason) for name, error in found.skipped] == list(
        zip(bad, ["empty", "not_an_image", "unreadable", "unreadable"], strict=True)
    )
    assert np.array_equal(found.embeddings[0], embed(photos[:2], None).embeddings[0])


def test_nothing_is_an_empty_answer(path):
    found = embed([], path)
    assert (found.kept, found.skipped, found.embeddings[0].shape) == ([], [], (0, 3))


def test_hostile_names_are_stored(photos, path, tmp_path):
    names = ["new\nline", "-x", "a'b\"c;--", os.fsdecode(b"caf\xe9"), "🌻"]
    copies = [shutil.copy(photo, tmp_path / name) for photo, name in zip(photos, names, strict=False)]
    embed(copies, path)
    assert embed(copies, path).computed == 0


@pytest.mark.parametrize("seconds", [-1, 0, 2**33, 2**34])
def test_file_of_any_time_is_stored(photos, path, seconds):
    os.utime(photos[0], (seconds, seconds))
    assert len(embed(photos, path).kept) == 10
    assert embed(photos, path).computed == 0


def set_aside(path):
    return sorted(path.parent.glob(f"{path.name}.broken-*"))


def damage_all(path):
    path.write_bytes(b"this was never a data base" * 1000)


def damage_header(path):
    path.write_bytes(b"x" + path.read_bytes()[1:])


def damage_pages(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def cut_short(path):
    os.truncate(path, 5000)


@pytest.mark.parametrize("damage", [damage_all, damage_header, damage_pages, cut_short])
def test_broken_store_is_set_aside_and_built_anew(photos, path, messages, damage):
    embed(photos, path)
    damage(path)
    content = path.read_bytes()
    assert len(embed(photos, path).kept) == 10
    assert [aside.read_bytes() for aside in set_aside(path)] == [content]
    assert "set aside as bottlenecks.sqlite.broken-" in messages.text
    embed(photos, path)
    assert embed(photos, path).computed == 0


def test_broken_store_that_cannot_be_set_aside_is_a_message_not_an_end(photos, path, messages, monkeypatch):
    damage_all(path)
    content = path.read_bytes()

    def fail(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", fail)
    assert len(embed(photos, path).kept) == 10
    assert "cannot be set aside (Operation not permitted)" in messages.text
    assert path.read_bytes() == content


def test_emptied_store_is_filled_again(photos, path):
    path.touch()
    embed(photos, path)
    assert embed(photos, path).computed == 0
    assert set_aside(path) == []


def test_data_base_of_somebody_else_is_left_as_it_is(photos, path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE embeddings (mine TEXT)")
        connection.execute("INSERT INTO embeddings VALUES ('kept')")
    assert len(embed(photos, path).kept) == 10
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM embeddings").fetchall() == [("kept",)]


def folder_in_its_place(path):
    (path / "x").mkdir(parents=True)


def file_above_it(path):
    path.parent.rmdir()
    path.parent.touch()


def link_loop(path):
    path.symlink_to(path)


def named_pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("prepare", [folder_in_its_place, file_above_it, link_loop])
def test_store_that_cannot_be_made_is_a_message_not_an_end(photos, tmp_path, messages, prepare):
    path = tmp_path / "store" / "bottlenecks.sqlite"
    path.parent.mkdir()
    prepare(path)
    assert len(embed(photos, path).kept) == 10
    assert f"{path} cannot be used" in messages.text


def test_folder_without_permission_is_a_message_not_an_end(ordinary_user, messages):
    ordinary_user.chmod(0o500)
    with Store(ordinary_user / "bottlenecks.sqlite") as store:
        store.put(b"digest", "colors", np.zeros(3))
        assert store.get(b"digest", "colors") is not None
    assert "cannot be used" in messages.text


def test_store_without_permission_is_a_message_not_an_end(ordinary_user, messages):
    with Store(ordinary_user / "bottlenecks.sqlite") as store:
        store.put(b"digest", "colors", np.zeros(3))
    (ordinary_user / "bottlenecks.sqlite").chmod(0)
    with Store(ordinary_user / "bottlenecks.sqlite") as store:
        assert store.get(b"digest", "colors") is None
    assert "cannot be used" in messages.text


class Connection(sqlite3.Connection):
    """A connection whose statements that hold `trouble` fail with `error`."""

    trouble, error = "", sqlite3.OperationalError("")

    def execute(self, sql, *arguments):
        if self.trouble in sql:
            raise self.error
        return super().execute(sql, *arguments)

    def executemany(self, sql, rows):
        if self.trouble in sql:
            raise self.error
        return super().executemany(sql, rows)


@pytest.fixture
def trouble(monkeypatch):
    real = sqlite3.connect

    def simulate(words, error):
        kind = type("Troubled", (Connection,), {"trouble": words, "error": error})
        monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: real(*args, **options, factory=kind))

    return simulate


def test_file_system_without_wal_is_served_by_a_rollback_journal(photos, path, messages, trouble):
    trouble("WAL", sqlite3.OperationalError("disk I/O error"))
    embed(photos, path)
    assert embed(photos, path).computed == 0
    assert not path.with_name(path.name + "-wal").exists()
    assert messages.text == ""


def test_full_disk_is_a_message_not_an_end(photos, path, messages, trouble):
    embed(photos[:5], path)
    trouble("REPLACE", sqlite3.OperationalError("database or disk is full"))
    assert len(embed(photos, path).kept) == 10
    assert messages.text.count("cannot be written (database or disk is full)") == 1
    assert set_aside(path) == []
    trouble("no such words", None)
    assert embed(photos, path).computed == 5


def test_store_that_breaks_midway_is_set_aside(photos, path, messages, trouble):
    embed(photos[:5], path)
    trouble("REPLACE", sqlite3.DatabaseError("database disk image is malformed"))
    assert len(embed(photos, path).kept) == 10
    assert set_aside(path)


FILL = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from retrain import bottlenecks
from test_bottlenecks import Colors, embed_slowly
embed_slowly(sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2]))
"""


def embed_slowly(paths, path):
    """Say each picture on stdout as it is put into the store, which commits at once."""
    bottlenecks.COMMIT_EVERY_S = 0
    with Store(path) as store:
        for photo in paths:
            embed_files([photo], [Colors()], store)
            print(photo, flush=True)
        time.sleep(60)


def start_filling(folder, path):
    command = [sys.executable, "-c", FILL.format(tests=str(Path(__file__).parent)), str(folder), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_keeps_what_was_committed(photos, path):
    process = start_filling(photos[0].parent, path)
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert embed(photos, path).computed <= 6
    assert set_aside(path) == []


def test_processes_share_a_store(photos, path, sample):
    processes = [start_filling(sample / name, path) for name in ("tree", "fish", "sun")]
    try:
        for process in processes:
            for _ in range(24):
                process.stdout.readline()
    finally:
        for process in processes:
            process.kill()
    assert embed(sorted(sample.glob("[tfs][riu][esn]*/*")), path).computed == 0


def test_threads_share_a_store(photos, path):
    with Store(path) as store, ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: embed_files(photos, [Colors()], store), range(8)))
    assert all(np.array_equal(one.embeddings[0], found[0].embeddings[0]) for one in found)


def test_interrupt_keeps_what_was_done(photos, path, monkeypatch):
    noted = []

    def note(store, *row, real=Store.note):
        real(store, *row)
        noted.append(row)
        if len(noted) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "note", note)
        with pytest.raises(KeyboardInterrupt):
            embed(photos, path)
    assert embed(photos, path).computed == 5


def test_closed_store_answers_nothing_and_stays_sound(photos, path):
    with Store(path) as store:
        found = embed_files(photos, [Colors()], store)
    assert store.get(found.digests[0], "colors") is None
    assert set_aside(path) == []
    assert embed(photos, path).computed == 0


def test_writer_holds_the_store_no_longer_than_a_commit(photos, path, monkeypatch):
    monkeypatch.setattr(bottlenecks, "BUSY_TIMEOUT_S", 0)
    monkeypatch.setattr(bottlenecks, "COMMIT_EVERY_S", 3600)
    with Store(path) as busy, Store(path) as other:
        embed_files(photos[:5], [Colors()], busy)
        embed_files(photos[5:], [Colors()], other)
    assert embed(photos, path).computed == 0
