import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.errors import RetrainError
from retrain.recipes.journal import NAMES, Journal

HEADER = {"tool": "retrain sort", "version": 1}
WORDS = st.sampled_from(["/a", "a", "../a", "copy", "move", "", "\0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {"source": WORDS, "destination": WORDS, "mode": WORDS, "sha256": WORDS, "size": VALUES, "mtime_ns": VALUES}
)
KINDS = {"files": st.lists(ENTRIES, max_size=2) | VALUES, "folder": VALUES, "forget": VALUES, "times": VALUES}
LINES = st.one_of([st.fixed_dictionaries({name: values}) for name, values in KINDS.items()] + [VALUES])


def journal_of(folder, content):
    (folder / NAMES["sort"]).write_bytes(content)
    return Journal(folder)


@given(st.lists(LINES, max_size=4))
def test_journal_of_a_stranger_is_read_or_refused(lines):
    text = "".join(f"{json.dumps(line)}\n" for line in [HEADER, *lines])
    with tempfile.TemporaryDirectory() as folder, suppress(RetrainError):
        journal = journal_of(Path(folder), text.encode())
        for entry in journal.entries.values():
            assert Path(folder) in (Path(folder) / entry.destination).resolve().parents
            assert Path(entry.source).is_absolute()


@given(st.binary(max_size=200), st.integers(0, 30))
def test_damaged_journal_is_read_or_refused(rest, kept):
    with tempfile.TemporaryDirectory() as folder, suppress(RetrainError):
        journal_of(Path(folder), json.dumps(HEADER).encode()[:kept] + rest)


def test_entry_outside_the_folder_is_refused(tmp_path):
    entry = {"source": "/a", "destination": "../a", "mode": "move", "sha256": "", "size": 1, "mtime_ns": 1}
    with pytest.raises(RetrainError, match="damaged"):
        journal_of(tmp_path, f"{json.dumps(HEADER)}\n{json.dumps({'files': [entry]})}\n".encode())
