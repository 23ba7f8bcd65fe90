import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from retrain.backbones.files import cache_folder
from retrain.cli.doctor import command
from retrain.recipes import doctoring
from retrain.recipes.doctoring import BROKEN, CHECKS, FINE, NOTE, Finding


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_FILES", str(tmp_path / "tf_files"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(doctoring, "TRIAL_IMAGES", 2)
    return tmp_path


def with_checks(monkeypatch, **checks):
    monkeypatch.setattr(doctoring, "CHECKS", checks)


@pytest.mark.parametrize("name", CHECKS)
def test_check_answers(name):
    finding = CHECKS[name]()
    assert finding.status in (FINE, NOTE)
    assert finding.text
    assert finding.hint or finding.status == FINE


def test_failing_check_is_a_broken_line_and_the_others_still_run(monkeypatch):
    with_checks(monkeypatch, bad=lambda: 1 / 0, good=lambda: Finding(FINE, "all right"))
    (_, bad), (_, good) = doctoring.examine()
    assert (bad.status, good.status) == (BROKEN, FINE)
    assert bad.hint


@pytest.mark.parametrize(("status", "exit_code"), [(FINE, 0), (NOTE, 0), (BROKEN, 1)])
def test_exit_code_says_whether_something_is_broken(monkeypatch, status, exit_code):
    with_checks(monkeypatch, thing=lambda: Finding(status, "how it is", "what to do"))
    result = CliRunner().invoke(command)
    assert result.exit_code == exit_code
    assert result.stdout.split() == [status, "thing", "how", "it", "is", "what", "to", "do"]


def test_json_is_one_object(monkeypatch):
    with_checks(monkeypatch, one=lambda: Finding(FINE, "a"), two=lambda: Finding(BROKEN, "b", "c"))
    result = CliRunner().invoke(command, ["--json"])
    assert json.loads(result.stdout) == {
        "checks": [
            {"name": "one", "status": "fine", "text": "a", "hint": None},
            {"name": "two", "status": "broken", "text": "b", "hint": "c"},
        ],
        "broken": 1,
    }


def test_clean_empties_our_caches_and_nothing_else(home):
    ours = [cache_folder() / "a.tflite"]
    ours += [home / "tf_files" / name for name in ("bottlenecks.sqlite", "bottlenecks.sqlite-wal")]
    ours += [home / "tf_files" / "bottlenecks.sqlite-shm", home / "tf_files" / "bottlenecks.sqlite.broken-1"]
    others = [home / "tf_files" / name for name in ("model/model.json", "data/cat/1.jpg", "bottlenecks.sqlite.mine")]
    others += [cache_folder().parent / "other"]
    for path in ours + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    result = CliRunner().invoke(command, ["--clean", "--json"])
    assert json.loads(result.stdout)["freed_bytes"] == 500
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in others)


def test_clean_finds_nothing_the_second_time():
    assert CliRunner().invoke(command, ["--clean"]).stdout.strip() == "0.0 MB freed"


def test_data_folder_that_is_a_file_is_broken(home):
    (home / "tf_files").touch()
    assert CHECKS["data folder"]().status == BROKEN


def test_no_model_is_fine_and_a_damaged_one_broken(home):
    assert CHECKS["model"]().status == FINE
    folder = home / "tf_files" / "model"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{")
    finding = dict(doctoring.examine())["model"]
    assert (finding.status, finding.hint) == (BROKEN, "Train again.")


def test_missing_tensorflow_is_fine_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(doctoring, "_version", lambda package: None)
    finding = CHECKS["TensorFlow"]()
    assert finding.status == FINE
    assert "make setup-full" in finding.hint


def test_engine_that_does_not_answer_is_given_up(home, monkeypatch):
    for engine in ("docker", "podman"):
        (home / engine).write_text("#!/bin/sh\nexec sleep 60\n")
        (home / engine).chmod(0o755)
    monkeypatch.setenv("PATH", str(home), prepend=":")
    monkeypatch.setattr(doctoring, "ENGINE_TIMEOUT_S", 0.2)
    assert "no docker or podman answers" in CHECKS["engine"]().text


def test_modules_without_byte_code_are_named_with_the_remedy(home, monkeypatch):
    (home / "uncompiled_module.py").touch()
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    __import__("uncompiled_module")
    finding = CHECKS["byte code"]()
    assert finding.status == NOTE
    assert str(home / "uncompiled_module.py") in finding.hint


def test_looks_without_importing_tensorflow():
    code = "import sys; from retrain.recipes import doctoring; dict(doctoring.examine()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tensorflow" not in loaded
    assert "sklearn" not in loaded
