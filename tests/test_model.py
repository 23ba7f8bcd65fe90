import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain import model as model_module
from retrain.backbones import Backbone, find_spec
from retrain.errors import RetrainError
from retrain.head import Head
from retrain.model import HEAD_FILE, MANIFEST, REPORT, TRUST_FILE, Model, check_writable, load_model, save_model

SPEC = replace(find_spec("efficientnet-lite0"), embedding_size=4)
CLASSES = ["Darth Vader", "タンポポ 🌻", "new\nline", os.fsdecode(b"caf\xe9")]


def make(seed=0, backbones=1):
    random = np.random.default_rng(seed)
    weights, intercept = random.normal(size=(4, 4 * backbones)), random.normal(size=4)
    networks = [Backbone(SPEC, f"network {number}".encode() * 10_000) for number in range(backbones)]
    head = Head(weights.astype(np.float32), intercept.astype(np.float32))
    return Model(list(CLASSES), networks, head, 1.5, info={"seed": seed})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


@pytest.fixture
def saved(folder):
    save_model(make(), folder)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("backbones", [1, 2])
def test_model_comes_back_as_it_was(folder, backbones):
    model = make(backbones=backbones)
    save_model(model, folder, "<p>é</p>")
    loaded = load_model(folder)
    assert (loaded.classes, loaded.temperature, loaded.info) == (model.classes, model.temperature, model.info)
    assert np.array_equal(loaded.head.weights, model.head.weights)
    assert np.array_equal(loaded.head.intercept, model.head.intercept)
    assert [(b.spec, b.content) for b in loaded.backbones] == [(b.spec, b.content) for b in model.backbones]
    assert (folder / REPORT).read_text("utf-8") == "<p>é</p>"


def test_same_model_gives_same_bytes_everywhere(tmp_path):
    for name in ("one", "two"):
        save_model(make(), tmp_path / name)
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_but_the_model_is_left(saved):
    save_model(make(1), saved)
    assert names(saved.parent) == ["model"]
    assert names(saved) == ["backbone.tflite", HEAD_FILE, MANIFEST, TRUST_FILE]


def test_smaller_model_leaves_nothing_of_the_larger(folder):
    save_model(make(backbones=2), folder, "report")
    save_model(make(), folder)
    assert names(folder) == ["backbone.tflite", HEAD_FILE, MANIFEST, TRUST_FILE]


def test_manifest_is_plain_json(saved):
    manifest = json.loads((saved / MANIFEST).read_bytes())
    assert manifest["format_version"] == 2
    assert manifest["classes"] == CLASSES
    assert set(manifest["files"]) == {HEAD_FILE, TRUST_FILE, "backbone.tflite"}


def test_model_folder_has_ordinary_permissions(saved):
    mask = os.umask(0)
    os.umask(mask)
    assert saved.stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("there", [True, False])
def test_folders_above_are_made(tmp_path, there):
    folder = tmp_path / "a" / "b" / "model"
    if there:
        folder.mkdir(parents=True)
    save_model(make(), folder)
    assert load_model(folder).info == {"seed": 0}


def rewrite(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def replace_head(folder, content):
    """Another head, and its right checksum."""
    (folder / HEAD_FILE).write_bytes(content)
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    rewrite(folder, files=files | {HEAD_FILE: hashlib.sha256(content).hexdigest()})


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


WEIGHTS, INTERCEPT = np.zeros((4, 4), np.float32), np.zeros(4, np.float32)
DAMAGES = {
    "no manifest": lambda f: (f / MANIFEST).unlink(),
    "no head": lambda f: (f / HEAD_FILE).unlink(),
    "no backbone": lambda f: (f / "backbone.tflite").unlink(),
    "folder in place of a file": lambda f: ((f / HEAD_FILE).unlink(), (f / HEAD_FILE).mkdir()),
    "half a manifest": lambda f: os.truncate(f / MANIFEST, 200),
    "empty manifest": lambda f: os.truncate(f / MANIFEST, 0),
    "half a head": lambda f: os.truncate(f / HEAD_FILE, 100),
    "half a backbone": lambda f: os.truncate(f / "backbone.tflite", 100),
    "no UTF-8": lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe\xfd"),
    "a list": lambda f: (f / MANIFEST).write_text("[]"),
    "null": lambda f: (f / MANIFEST).write_text("null"),
    "deep nesting": lambda f: (f / MANIFEST).write_text("[" * 100_000),
    "files of another kind": lambda f: rewrite(f, files=[HEAD_FILE]),
    "no files": lambda f: rewrite(f, files={}),
    "file outside": lambda f: rewrite(f, files={"../x": "0"}),
    "file above": lambda f: rewrite(f, files={"..": "0"}),
    "file with a zero byte": lambda f: rewrite(f, files={"head.npz\0": "0"}),
    "checksum of another kind": lambda f: rewrite(f, files={HEAD_FILE: 7}),
    "no classes": lambda f: rewrite(f, classes=None),
    "too few classes": lambda f: rewrite(f, classes=["a"]),
    "equal classes": lambda f: rewrite(f, classes=["a"] * 4),
    "classes of another kind": lambda f: rewrite(f, classes=[[1], [2], [3], [4]]),
    "no backbones": lambda f: rewrite(f, backbones=[]),
    "unknown field of a backbone": lambda f: rewrite(f, backbones=[{"file": "backbone.tflite", "spec": {"x": 1}}]),
    "backbone without a file": lambda f: rewrite(f, backbones=[{"file": "x", "spec": vars(SPEC)}]),
    "temperature in words": lambda f: rewrite(f, temperature="warm"),
    "temperature of zero": lambda f: rewrite(f, temperature=0),
    "temperature that is no number": lambda f: rewrite(f, temperature=float("nan")),
    "head of garbage": lambda f: replace_head(f, b"no zip"),
    "empty head": lambda f: replace_head(f, b""),
    "head cut short": lambda f: replace_head(f, npz(weights=WEIGHTS, intercept=INTERCEPT)[:-30]),
    "head without intercept": lambda f: replace_head(f, npz(weights=WEIGHTS)),
    "head of another shape": lambda f: replace_head(f, npz(weights=WEIGHTS[:3], intercept=INTERCEPT)),
    "intercept of another shape": lambda f: replace_head(f, npz(weights=WEIGHTS, intercept=INTERCEPT[:3])),
    "pickle in the head": lambda f: replace_head(f, npz(weights=np.array([Evil()]), intercept=INTERCEPT)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_an_error_with_a_hint(saved, monkeypatch, damage):
    monkeypatch.chdir(saved)
    damage(saved)
    with pytest.raises(RetrainError, match=r"model|head|backbone") as caught:
        load_model(saved)
    assert caught.value.hint
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", [HEAD_FILE, "backbone.tflite"])
def test_flipped_byte_is_an_error_with_a_hint(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(RetrainError, match="checksum") as caught:
        load_model(saved)
    assert caught.value.hint == "Train again."


@pytest.mark.parametrize("version", [5, 99, "1.0", None, -1])
def test_other_format_is_an_error_with_a_hint(saved, version):
    rewrite(saved, format_version=version)
    with pytest.raises(RetrainError, match=f"has format {version}") as caught:
        load_model(saved)
    assert "newest" in caught.value.hint


def make_sigmoid():
    """A model that tells several labels of a picture."""
    model = make()
    thresholds = np.array([0.1, 1 / 3, 0.5, 1], np.float32)
    return replace(model, head=replace(model.head, thresholds=thresholds))


def test_thresholds_come_back_as_they_were_and_stand_in_the_manifest(folder):
    model = make_sigmoid()
    save_model(model, folder)
    assert np.array_equal(load_model(folder).head.thresholds, model.head.thresholds)
    assert json.loads((folder / MANIFEST).read_bytes())["thresholds"]["new\nline"] == 0.5


def test_only_a_model_of_several_labels_has_the_new_format_that_an_older_retrain_refuses(tmp_path):
    save_model(make(), tmp_path / "one")
    save_model(make_sigmoid(), tmp_path / "several")
    one, several = (json.loads((tmp_path / name / MANIFEST).read_bytes()) for name in ("one", "several"))
    assert (one["format_version"], several["format_version"]) == (2, 3)
    assert set(several) - set(one) == {"thresholds"}


@pytest.mark.parametrize(
    "thresholds",
    [None, {}, [0.5] * 4, dict.fromkeys(CLASSES[:3], 0.5), *(
        dict.fromkeys(CLASSES, 0.5) | {"new\nline": value} for value in (-0.1, 1.1, float("nan"), None, "a", [0.5])
    )],
    ids=repr,
)  # fmt: skip
def test_thresholds_that_are_none_are_refused(folder, thresholds):
    save_model(make_sigmoid(), folder)
    rewrite(folder, thresholds=thresholds)
    with pytest.raises(RetrainError, match="damaged") as caught:
        load_model(folder)
    assert caught.value.hint == "Train again."


def nothing(path):
    pass


def empty_folder(path):
    path.mkdir()


def file(path):
    path.touch()


def link_loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("prepare", [nothing, empty_folder, file, link_loop])
def test_no_model_is_an_error_with_a_hint(folder, prepare):
    prepare(folder)
    with pytest.raises(RetrainError) as caught:
        load_model(folder)
    assert caught.value.hint


def test_name_too_long_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(RetrainError, match="File name too long"):
        load_model(tmp_path / ("x" * 300))
    with pytest.raises(RetrainError, match="File name too long"):
        check_writable(tmp_path / ("x" * 300))


def test_locked_model_is_an_error_with_a_hint(ordinary_user):
    save_model(make(), ordinary_user / "model")
    (ordinary_user / "model").chmod(0)
    for function in (load_model, check_writable):
        with pytest.raises(RetrainError, match="Permission denied") as caught:
            function(ordinary_user / "model")
        assert caught.value.hint


@pytest.mark.parametrize("damage", ["half a manifest", "no head", "half a backbone", "empty manifest"])
def test_damaged_model_can_be_replaced(saved, damage):
    DAMAGES[damage](saved)
    save_model(make(2), saved)
    assert load_model(saved).info == {"seed": 2}


def test_foreign_files_stay(saved):
    (saved / "notes.txt").write_text("mine")
    (saved / "exports").mkdir()
    (saved / "exports" / "x").write_text("mine, too")
    save_model(make(1), saved)
    assert (saved / "notes.txt").read_text() == "mine"
    assert (saved / "exports" / "x").read_text() == "mine, too"
    assert load_model(saved).info == {"seed": 1}


@pytest.mark.parametrize("manifest", [None, "{}", '{"modelTopology": {}}', "[]"])
def test_folder_that_is_no_model_is_refused_and_stays(folder, manifest):
    folder.mkdir()
    (folder / "photo.jpg").write_text("mine")
    if manifest:
        (folder / MANIFEST).write_text(manifest)
    before = names(folder)
    with pytest.raises(RetrainError, match="holds no model") as caught:
        save_model(make(), folder)
    assert caught.value.hint
    assert names(folder) == before


def test_failed_write_leaves_the_old_model_and_foreign_files(saved, monkeypatch):
    (saved / "notes.txt").write_text("mine")
    before = names(saved)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_module.os, "fsync", fail)
    with pytest.raises(RetrainError, match="No space left on device") as caught:
        save_model(make(1), saved)
    assert caught.value.hint
    assert names(saved.parent) == ["model"]
    assert names(saved) == before
    assert load_model(saved).info == {"seed": 0}


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_failed_rename_leaves_a_model_and_foreign_files(saved, monkeypatch, failing):
    (saved / "notes.txt").write_text("mine")
    real, calls = Path.rename, []

    def rename(self, target):
        calls.append(self)
        if len(calls) == failing:
            raise PermissionError(1, "Operation not permitted")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        try:
            save_model(make(1), saved)
        except RetrainError as error:
            assert failing < 3
            assert "Operation not permitted" in str(error)
    assert load_model(saved).info == {"seed": 0 if failing < 3 else 1}
    check_writable(saved)
    assert (saved / "notes.txt").read_text() == "mine"
    assert names(saved.parent) == ["model"]


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_model import make, save_model
real, calls = Path.rename, []
def rename(self, target):
    calls.append(self)
    if len(calls) == {at}:
        os.kill(os.getpid(), 9)
    return real(self, target)
Path.rename = rename
save_model(make(1), sys.argv[1])
"""


@pytest.mark.parametrize(("at", "seed"), [(1, 0), (2, 0), (3, 1)])
def test_kill_at_any_rename_loses_nothing(saved, at, seed):
    (saved / "notes.txt").write_text("mine")
    code = KILLED.format(tests=str(Path(__file__).parent), at=at)
    killed = subprocess.run([sys.executable, "-c", code, saved], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert load_model(saved).info == {"seed": seed}
    save_model(make(5), saved)
    assert load_model(saved).info == {"seed": 5}
    assert (saved / "notes.txt").read_text() == "mine"
    assert not (saved.parent / ".model.previous").exists()


def test_training_that_fails_after_a_kill_keeps_the_model(saved):
    saved.rename(saved.parent / ".model.previous")
    saved.mkdir()  # as a container's mount does
    check_writable(saved)
    assert load_model(saved).info == {"seed": 0}


def test_reader_never_fails_while_models_are_swapped(saved):
    done, seen = threading.Event(), set()

    def read():
        while not done.is_set():
            seen.add(load_model(saved).info["seed"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # a disk's own pace would hide the races
        errors = []
        threads = [threading.Thread(target=guarded(read, errors)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for seed in range(200):
            save_model(make(seed), saved)
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert len(seen) > 5


def guarded(function, errors):
    def run():
        try:
            function()
        except Exception as error:
            errors.append(error)

    return run


def test_linked_model_folder_stays_a_link(tmp_path, folder):
    (tmp_path / "disk").mkdir()
    folder.symlink_to("disk/model")
    for seed in range(3):
        save_model(make(seed), folder)
    assert folder.is_symlink()
    assert load_model(folder).info == {"seed": 2}
    assert names(tmp_path / "disk") == ["model"]


def test_current_folder_can_be_a_model(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_model(make(), ".")
    assert load_model(tmp_path / "here").info == {"seed": 0}


@pytest.mark.parametrize("place", ["/proc/model", "/dev/null/model", "/dev/null"])
def test_unwritable_place_is_an_error_with_a_hint(place):
    with pytest.raises(RetrainError, match=place) as caught:
        check_writable(place)
    assert caught.value.hint


def test_root_folder_is_refused():
    with pytest.raises(RetrainError, match="holds no model"):
        check_writable("/")


@pytest.fixture(scope="module")
def whole(trained):
    return {path.name: path.read_bytes() for path in (trained / "model").iterdir()}


@given(st.data())
def test_model_of_a_stranger_is_read_or_refused(whole, data):
    manifest = json.loads(whole[MANIFEST])
    key = data.draw(st.sampled_from(sorted(manifest)))
    values = st.none() | st.integers() | st.text(max_size=4) | st.lists(st.text(max_size=3)) | st.just({"a": []})
    manifest[key] = data.draw(values)
    place = data.draw(st.integers(0, len(whole[HEAD_FILE]) - 1))
    with tempfile.TemporaryDirectory() as folder, suppress(RetrainError):
        for name, content in whole.items():
            Path(folder, name).write_bytes(content)
        Path(folder, MANIFEST).write_text(json.dumps(manifest))
        if data.draw(st.booleans()):
            Path(folder, HEAD_FILE).write_bytes(whole[HEAD_FILE][:place])
        assert isinstance(load_model(Path(folder)), Model)


def retrusted(folder, **changes):
    """The same model with other arrays in its trust file."""
    with np.load(folder / TRUST_FILE) as file:
        arrays = {name: array for name, array in (dict(file) | changes).items() if array is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (folder / TRUST_FILE).write_bytes(buffer.getvalue())
    digests = json.loads((folder / MANIFEST).read_bytes())["files"]
    rewrite(folder, files=digests | {TRUST_FILE: hashlib.sha256(buffer.getvalue()).hexdigest()})


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.zeros((2, 2), np.float32)},
        {"scores": np.float32([np.nan, 1])},
        {"confidences": np.float32([1, 0])},
        {"confidences": None},
        {"means": None},
        {"offset": np.zeros(1, np.float32)},
        {"spread": np.zeros(3, np.float32)},
        {"spread": np.full(3, np.nan, np.float32)},
        {"axes": np.zeros((2, 7), np.float32)},
        {"neighbourhood_rows": np.zeros((0, 4), np.float32)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_sense_of_the_unknown_that_is_none_is_refused(trained, tmp_path, changes):
    folder = shutil.copytree(trained / "model", tmp_path / "model")
    retrusted(folder)
    load_model(folder)
    retrusted(folder, **changes)
    with pytest.raises(RetrainError, match="is damaged"):
        load_model(folder)


@pytest.mark.parametrize("rate", [5, -1, float("nan")])
def test_reject_rate_that_is_none_is_refused(saved, rate):
    rewrite(saved, reject_rate=rate)
    with pytest.raises(RetrainError, match="is damaged"):
        load_model(saved)


def test_model_of_format_1_calls_nothing_unknown(saved):
    manifest = json.loads((saved / MANIFEST).read_bytes())
    files = {name: digest for name, digest in manifest["files"].items() if name != TRUST_FILE}
    rewrite(saved, format_version=1, files=files)
    (saved / TRUST_FILE).unlink()
    loaded = load_model(saved)
    assert (loaded.detector, loaded.reject_rate, len(loaded.learned)) == (None, 0.0, 0)
