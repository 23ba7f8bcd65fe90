import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    monkeypatch.delenv("RETRAIN_STAGE", raising=False)
    monkeypatch.delenv("RETRAIN_PROGRAM", raising=False)
    monkeypatch.setattr(doctoring, "TRIAL_IMAGES", 2)
    for name in ("PCI_DEVICES", "NVIDIA_DEVICE", "NVIDIA_DRIVER"):
        monkeypatch.setattr(doctoring, name, tmp_path / name)
    return tmp_path


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program of that name on the PATH, which has nothing else, and prints what it is told to."""
    cat = shutil.which("cat")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(name, output="", log="", exit_code=0):
        path = tmp_path / "bin" / name
        for stream, text in (("output", output), ("log", log)):
            path.with_suffix(f".{stream}").write_text(text)
        path.write_text(f"#!/bin/sh\n{cat} '{path}.output'\n{cat} '{path}.log' >&2\nexit {exit_code}\n")
        path.chmod(0o755)
        return path

    return install


@pytest.fixture
def tensorflow_says(program, monkeypatch):
    """A card is there, and TensorFlow tries it with this log and exit code."""
    program("nvidia-smi", "NVIDIA H200, 550.54.15\n")
    monkeypatch.setattr(doctoring, "_version", lambda package: "2.21.0")

    def install(log="", exit_code=1):
        monkeypatch.setattr(sys, "executable", str(program("python", log=log, exit_code=exit_code)))

    return install


@pytest.fixture(params=["guess", "full", "gpu"])
def stage(request, monkeypatch):
    monkeypatch.setenv("RETRAIN_STAGE", request.param)
    return request.param


def with_checks(monkeypatch, **checks):
    monkeypatch.setattr(doctoring, "CHECKS", checks)


@pytest.mark.parametrize("name", CHECKS)
def test_check_answers(name):
    finding = CHECKS[name]()
    if finding is not None:
        assert finding.status in (FINE, NOTE)
        assert finding.text
        assert finding.hint or finding.status == FINE


def test_check_without_anything_to_say_is_no_line(monkeypatch):
    with_checks(monkeypatch, nothing=lambda: None, good=lambda: Finding(FINE, "all right"))
    assert [name for name, _ in doctoring.examine()] == ["good"]


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


def test_backbones_of_an_image_are_neither_counted_nor_deleted(home, monkeypatch):
    monkeypatch.setattr("retrain.backbones.files.INSTALLED", home / "image")
    installed = home / "image" / "a.tflite"
    installed.parent.mkdir()
    installed.write_bytes(b"x" * 1_000_000)
    assert CHECKS["caches"]().text.startswith("0.0 MB of built backbones")
    assert doctoring.clean() == {}
    assert installed.exists()


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


def test_image_names_itself_and_asks_no_engine(stage):
    assert CHECKS["engine"]().text == f"this is a container of the image retrain:{stage}"


def test_remedies_in_an_image_are_those_of_an_image(stage, home, monkeypatch):
    (home / "uncompiled.py").touch()
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(doctoring, "_version", lambda package: None)
    monkeypatch.setattr(doctoring, "sniff", lambda content: "text/plain")
    monkeypatch.setitem(CHECKS, "failing", lambda: 1 / 0)
    __import__("uncompiled")
    findings = dict(doctoring.examine())
    for name in ("TensorFlow", "libmagic", "failing", "byte code"):
        assert findings[name].hint.startswith("make image builds")
    assert not [finding for finding in findings.values() if "make setup" in f"{finding.hint}"]


def test_data_folder_in_a_container_says_whether_it_is_mounted(stage, home, monkeypatch):
    folder = home / "tf_files"
    monkeypatch.setattr(Path, "is_mount", lambda path: path in mounted)
    mounted = [Path("/")]
    for exists in (False, True):
        if exists:
            folder.mkdir()
        finding = CHECKS["data folder"]()
        assert (finding.status, finding.text) == (NOTE, f"{folder} is no mounted folder, so nothing in it is kept")
        assert f"target={folder}" in finding.hint
    mounted = [folder]
    assert CHECKS["data folder"]() == (FINE, f"{folder} is mounted and can be written to (owner {os.getuid()})", None)
    mounted = [home]
    assert CHECKS["data folder"]().status == FINE


def test_wrapper_mounts_the_data_folder_once_it_is_there(stage, home, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: False)
    monkeypatch.setenv("RETRAIN_PROGRAM", "scripts/retrain.sh")
    assert CHECKS["data folder"]() == (FINE, f"{home}/tf_files is not there yet; the first training makes it", None)
    (home / "tf_files").mkdir()
    assert CHECKS["data folder"]().status == NOTE


def test_read_only_mount_is_said(stage, home, monkeypatch):
    (home / "tf_files").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == home)
    monkeypatch.setattr(os, "statvfs", lambda path: type("", (), {"f_flag": os.ST_RDONLY}))
    finding = CHECKS["data folder"]()
    assert (finding.status, finding.hint) == (NOTE, "Mount it without readonly.")


def test_owner_without_a_name_is_a_number(home, monkeypatch):
    def nameless(path):
        raise KeyError

    (home / "tf_files").mkdir()
    monkeypatch.setattr(Path, "owner", nameless)
    assert CHECKS["data folder"]().text.endswith(f"(owner {os.getuid()})")


def test_unwritable_data_folder_says_how_to_own_it(home, monkeypatch):
    monkeypatch.setenv("TF_FILES", str(home / "my files"))
    (home / "my files").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    finding = CHECKS["data folder"]()
    assert (finding.status, finding.hint) == (BROKEN, f"sudo chown -R \"$USER\" '{home}/my files'")


def test_no_card_is_fine(program):
    assert CHECKS["GPU"]() == (FINE, "none; the processor does the work", None)
    assert CHECKS["toolkit"]() is None


@pytest.mark.parametrize(
    ("vendor", "kind", "status"),
    [("0x10de", "0x030200", NOTE), ("0x10de", "0x040300", FINE), ("0x8086", "0x030000", FINE)],
)
def test_card_without_its_driver_is_a_note(program, home, vendor, kind, status):
    device = home / "PCI_DEVICES" / "0000:00:1e.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")
    finding = CHECKS["GPU"]()
    assert finding.status == status
    assert ("driver" in f"{finding.hint}") == (status == NOTE)


def test_nvidia_smi_that_fails_is_quoted(program):
    program("nvidia-smi", "Failed to initialize NVML: Driver/library version mismatch\nmore", exit_code=18)
    finding = CHECKS["GPU"]()
    assert finding.status == NOTE
    assert finding.text.endswith(": Failed to initialize NVML: Driver/library version mismatch")
    assert "Restart" in finding.hint


def test_card_without_tensorflow_is_a_note(program, monkeypatch):
    program("nvidia-smi", "NVIDIA H200, 550.54.15\n")
    monkeypatch.setattr(doctoring, "_version", lambda package: None)
    finding = CHECKS["GPU"]()
    assert (finding.status, finding.text) == (NOTE, "NVIDIA H200, driver 550.54.15, unused without TensorFlow")
    assert "make setup-full" in finding.hint
    monkeypatch.setenv("RETRAIN_STAGE", "guess")
    assert CHECKS["GPU"]().status == FINE


def test_card_that_tensorflow_uses_is_fine(tensorflow_says):
    tensorflow_says(exit_code=0)
    assert CHECKS["GPU"]() == (FINE, "NVIDIA H200, driver 550.54.15, used by TensorFlow", None)


def test_each_card_is_named(program, tensorflow_says):
    tensorflow_says(exit_code=0)
    program("nvidia-smi", "NVIDIA H200, 550.54.15\nNVIDIA T4, 550.54.15\n")
    assert "NVIDIA H200, driver 550.54.15; NVIDIA T4, driver 550.54.15" in CHECKS["GPU"]().text


def test_card_is_known_by_its_device_where_there_is_no_nvidia_smi(home, program, tensorflow_says):
    tensorflow_says(exit_code=0)
    program("nvidia-smi", exit_code=9)
    (home / "NVIDIA_DEVICE").touch()
    assert CHECKS["GPU"]() == (FINE, "a card by NVIDIA, used by TensorFlow", None)


def test_tensorflow_that_gives_no_answer_is_a_note(home, tensorflow_says, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(home / "missing"))
    assert "gives no answer" in CHECKS["GPU"]().text


CUINIT = "E0000 00:00:1.1 1 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: "
LOADER = (
    "I0000 00:00:1.1 1 dso_loader.cc:144] Could not load dynamic library '{0}'; dlerror: {0}: cannot open shared ob"
)
DLOPEN = "W0000 00:00:1.1 1 gpu_device.cc:2365] Cannot dlopen some GPU libraries. Please make sure the missing librarie"
RAISED = "tensorflow.python.framework.errors_impl.InternalError: cudaGetDevice() failed. Status: "
TOO_OLD = (
    "I0000 00:00:1.1 1 gpu_device.cc:2412] Ignoring visible gpu device (device: 0, name: GTX 680, pci bus id: 0000:00:"
    "1e.0, compute capability: 3.0) with Cuda compute capability 3.0. The minimum required Cuda capability is 3.5."
)


@pytest.mark.parametrize(
    ("log", "reason", "hint", "hint_in_image"),
    [
        (
            "it is built without CUDA",
            "it is built without CUDA",
            "pip install 'tensorflow[and-cuda]'",
            "make image-gpu",
        ),
        (CUINIT + "UNKNOWN ERROR (303)", "libcuda.so.1", "Install the driver", "--gpus all"),
        (LOADER.format("libnvidia-ml.so.1"), "libnvidia-ml.so.1", "Install the driver", "--gpus all"),
        (
            CUINIT + "CUDA_ERROR_NO_DEVICE: no CUDA-capable",
            "CUDA_ERROR_NO_DEVICE",
            "CUDA_VISIBLE_DEVICES",
            "--gpus all",
        ),
        (CUINIT + "CUDA_ERROR_UNKNOWN: unknown error", "CUDA_ERROR_UNKNOWN", "nvidia_uvm", "nvidia_uvm"),
        (CUINIT + "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: sy", "DRIVER_MISMATCH: sy", "Restart", "Restart"),
        (RAISED + "CUDA driver version is insufficient for CUDA runtime", "insufficient", "Update", "Update"),
        (RAISED + "API call is not supported in the installed CUDA driver", "not supported", "Update", "Update"),
        (TOO_OLD, "compute capability 3.0", "The processor", "The processor"),
        (
            "ResourceExhaustedError: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
            "OUT_OF_MEMORY",
            "nvidia-smi",
            "nvidia-smi",
        ),
        ("FileNotFoundError: No usable temporary directory found in", "No usable", "Make room", "--tmpfs"),
        (
            f"{LOADER.format('libcudnn.so.9')}\n{LOADER.format('libnone.so.1')}\n{DLOPEN}",
            "libcudnn.so.9, libnone.so.1 cannot be loaded",
            "pip install 'tensorflow[and-cuda]'",
            "make image-gpu",
        ),
        ("something else", "it finds no GPU", "pip install 'tensorflow[and-cuda]'", "make image-gpu"),
    ],
)
def test_card_that_tensorflow_cannot_use_is_a_note_with_the_reason(
    log, reason, hint, hint_in_image, tensorflow_says, monkeypatch
):
    tensorflow_says(f"I0000 oneDNN custom operations are on.\n{log}\nit finds no GPU\n")
    for stage, wanted in ((None, hint), ("gpu", hint_in_image)):
        if stage:
            monkeypatch.setenv("RETRAIN_STAGE", stage)
        finding = CHECKS["GPU"]()
        assert finding.status == NOTE
        assert finding.text.startswith("NVIDIA H200, driver 550.54.15, but TensorFlow cannot use it: ")
        assert reason in finding.text
        assert wanted in finding.hint


def test_library_that_is_installed_and_not_found_is_shown_to_the_loader(home, tensorflow_says, monkeypatch):
    (home / "nvidia" / "cusolver" / "lib").mkdir(parents=True)
    (home / "nvidia" / "cusolver" / "lib" / "libcusolver.so.11").touch()
    distribution = type("", (), {"locate_file": staticmethod(home.joinpath)})
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: distribution)
    tensorflow_says(f"{LOADER.format('libcusolver.so.11')}\n{DLOPEN}\nit finds no GPU\n")
    assert CHECKS["GPU"]().hint == f"export LD_LIBRARY_PATH={home}/nvidia/cusolver/lib"


@pytest.mark.tf
@pytest.mark.skipif(not importlib.util.find_spec("tensorflow"), reason="TensorFlow is not installed")
def test_tensorflow_without_a_card_gives_a_reason_that_is_understood():
    environment = os.environ | doctoring.GPU_TRIAL_ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": "-1"}
    trial = subprocess.run(
        [sys.executable, "-c", doctoring.GPU_TRIAL], env=environment, capture_output=True, text=True, check=False
    )
    assert trial.returncode == 1
    reason, _ = doctoring._why_no_gpu(trial.stderr)
    assert "libcuda.so.1" in reason or "CUDA" in reason


def test_toolkit_is_asked_for_where_a_container_of_a_machine_with_a_card_has_none(home, program, stage):
    assert CHECKS["toolkit"]() is None
    (home / "NVIDIA_DRIVER").touch()
    assert CHECKS["GPU"]().text == "none in this container; the processor does the work"
    finding = CHECKS["toolkit"]()
    if stage == "guess":
        assert finding is None
    else:
        assert finding.status == NOTE
        assert "nvidia-container-toolkit" in finding.hint
        program("nvidia-smi")
        assert CHECKS["toolkit"]().status == FINE
