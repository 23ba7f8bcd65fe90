import errno
import json
import os
import sys

import numpy as np
import pytest

from retrain import EmbedOptions, RetrainError, embed
from retrain.backbones import load_backbone
from retrain.head import normalize
from retrain.images import decode, read
from retrain.recipes import embedding

parquet = pytest.importorskip("pyarrow.parquet")


def rows(out):
    return parquet.read_table(out).to_pylist()


def test_each_file_is_one_row(folder, tmp_path):
    result = embed(folder, tmp_path / "out.parquet")
    table = rows(tmp_path / "out.parquet")
    assert result["rows"] == result["new"] == len(table) == 2 * 24 + 3
    assert [row["path"] for row in table] == sorted(row["path"] for row in table)
    assert [row["path"] for row in table if row["error"]] == ["empty.jpg", "notes.txt"]
    assert len(result["skipped"]) == 2
    assert "caf\\xe9.png" in {row["path"] for row in table}


def test_no_two_files_have_the_same_path(sample, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    names = [os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png", "caf\\\\xe9.png"]
    picture = next((sample / "sun").iterdir())
    for number, name in enumerate(names, start=1):
        os.link(picture, source / name)
        assert embed(source, tmp_path / "out")["new"] == 1
        assert len({row["path"] for row in rows(tmp_path / "out")}) == number


def test_embedding_is_what_training_learns_from(folder, tmp_path):
    embed(folder, tmp_path / "out")
    row = next(row for row in rows(tmp_path / "out") if row["path"].startswith("sun/"))
    backbone = load_backbone("efficientnet-lite0")
    expected = normalize([backbone.embed(backbone.to_input(decode(read(folder / row["path"])))[None])])
    assert np.array_equal(np.float32(row["embedding"]), expected[0])
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)


def test_networks_stand_side_by_side(folder, tmp_path):
    result = embed(folder / "sun", tmp_path / "out", EmbedOptions(backbone="efficientnet-lite0+efficientnet-lite2"))
    assert result["dimensions"] == 2560 == len(rows(tmp_path / "out")[0]["embedding"])


def test_stopped_run_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "ROWS", 10)

    def stops(names, backbones, reader):
        for number, row in enumerate(embedding_of(names, backbones, reader)):
            if number == 25:
                raise KeyboardInterrupt
            yield row

    embedding_of = embedding.open_embedding(EmbedOptions())
    monkeypatch.setattr(embedding, "open_embedding", lambda _: stops)
    with pytest.raises(KeyboardInterrupt):
        embed(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("part-*")}
    assert len(before) == 3
    monkeypatch.undo()
    result = embed(folder, tmp_path / "out")
    assert (result["rows"], result["new"]) == (51, 26)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before
    embed(folder, tmp_path / "whole")
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert json.loads((tmp_path / "out" / "_SUCCESS").read_text())["rows"] == 51


def test_new_files_are_added(sample, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    first, second = sorted((sample / "sun").iterdir())[:2]
    os.link(first, source / "b.png")
    embed(source, tmp_path / "out")
    os.link(second, source / "a.png")
    assert embed(source, tmp_path / "out")["new"] == 1
    assert embed(source, tmp_path / "out")["new"] == 0
    assert [row["path"] for row in rows(tmp_path / "out")] == ["b.png", "a.png"]


def test_half_written_part_is_none(folder, tmp_path, monkeypatch):
    def fails(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(RetrainError, match=r"cannot work in .*: No space left") as error:
            embed(folder / "sun", tmp_path / "out")
    assert "Make room" in error.value.hint
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    (tmp_path / "out" / ".part-00000.parquet").write_bytes(b"PAR1")  # of a run that was killed
    assert embed(folder / "sun", tmp_path / "out")["rows"] == 24
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "_SUCCESS", "part-00000.parquet"]


def test_run_that_is_stopped_while_it_writes_has_no_row_twice(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "ROWS", 10)
    write = embedding._Parts._write

    def stops(parts, some):
        write(parts, some)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedding._Parts, "_write", stops)
        with pytest.raises(KeyboardInterrupt):
            embed(folder / "sun", tmp_path / "out")
    assert embed(folder / "sun", tmp_path / "out")["new"] == 14
    assert len(rows(tmp_path / "out")) == 24


def test_output_that_cannot_be_a_folder_is_named(folder, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(RetrainError, match=r"cannot work in .*/out: File exists"):
        embed(folder / "sun", tmp_path / "out")


def test_rows_of_other_networks_or_files_are_not_mixed(folder, tmp_path):
    embed(folder / "sun", tmp_path / "out")
    for source, options in [(folder / "sun", EmbedOptions(backbone="efficientnet-lite2")), (folder, EmbedOptions())]:
        with pytest.raises(RetrainError, match="other files or networks"):
            embed(source, tmp_path / "out", options)


def test_folder_of_somebody_else_is_left_alone(folder, tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(RetrainError, match=r"letters\.txt is no part of ours"):
        embed(folder / "sun", tmp_path)
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["letters.txt"]


def test_output_among_the_pictures_is_refused(folder):
    with pytest.raises(RetrainError, match="would be read as pictures"):
        embed(folder, folder / "sun" / "out")
    assert not (folder / "sun" / "out").exists()


def test_missing_package_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)
    monkeypatch.delattr("pyarrow.fs", raising=False)
    with pytest.raises(RetrainError, match="needs pyarrow") as error:
        embed(folder, tmp_path / "out")
    assert "pip install pyarrow" in error.value.hint
