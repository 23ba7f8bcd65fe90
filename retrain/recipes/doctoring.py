"""Is this machine fit for the work?  One small function a question, each answered by a Finding."""

import importlib.metadata
import io
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retrain.backbones import load_backbone
from retrain.backbones.files import cache_folder
from retrain.errors import RetrainError
from retrain.images import sniff
from retrain.model import load_model
from retrain.options import QUALITIES, default_model_dir, tf_files
from retrain.parallel import cores, ordered_map
from retrain.recipes.training import store_path

FINE, NOTE, BROKEN = "fine", "note", "broken"  # a note: works, but something could be better

PYTHON_SINCE, PYTHON_BEFORE = (3, 11), (3, 14)
TRIAL_IMAGES = 256
NEEDED_BYTES, COMFORTABLE_BYTES = 100e6, 1e9  # free disk space
ENGINE_TIMEOUT_S = 5
TENSORFLOW_TIMEOUT_S = 120  # a first import without byte code takes 7 s, slow disks and new cards more

PCI_DEVICES = Path("/sys/bus/pci/devices")
NVIDIA_DEVICE = Path("/dev/nvidia0")  # in a container only where that was given the card
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")  # in each container, since these share the kernel
DRIVER_PAGE = "https://www.nvidia.com/drivers"
GIVE_CARD = "Start the container with --gpus all, or with podman: --device nvidia.com/gpu=all"

GPU_TRIAL = """
import tensorflow as tf
if not tf.test.is_built_with_cuda():
    raise SystemExit("it is built without CUDA")
if not tf.config.list_physical_devices("GPU"):
    raise SystemExit("it finds no GPU")
with tf.device("GPU:0"):
    tf.ones((2, 2)) @ tf.ones((2, 2))
"""
GPU_TRIAL_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_CPP_VMODULE": "dso_loader=1",  # names the libraries that it cannot load
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # others may be using the card
}

# How Linux (/proc/cpuinfo) and macOS (sysctl) name the instructions that speed decides on.
CPU_FEATURES = {
    "avx2": r"\bavx2\b|\bavx2_0: 1",
    "avx512_vnni": r"\bavx512_vnni\b|\bavx512vnni: 1",
    "avx_vnni": r"\bavx_vnni\b",
    "dotprod": r"\basimddp\b|\bfeat_dotprod: 1",
}
INT8_FEATURES = {"avx512_vnni", "avx_vnni", "dotprod"}

CHECKS: dict[str, Callable] = {}


class Trouble(NamedTuple):
    """Why TensorFlow has no GPU.  pattern: what it or CUDA says.  meaning: where that is not plain enough."""

    pattern: str
    hint: str
    hint_in_image: str | None = None
    meaning: str | None = None


GPU_TROUBLES = [  # as TensorFlow 2.21 and CUDA 12 word them
    Trouble("it is built without CUDA", "On Linux: pip install 'tensorflow[and-cuda]'", "make image-gpu"),
    Trouble(
        r"UNKNOWN ERROR \(303\)|load dynamic library 'lib(cuda|nvidia-ml)\.so\.1'",
        f"Install the driver anew: {DRIVER_PAGE}",
        GIVE_CARD,
        "the driver's libcuda.so.1 or libnvidia-ml.so.1 is not here",
    ),
    Trouble(r"CUDA_ERROR_NO_DEVICE.*", "Unset CUDA_VISIBLE_DEVICES, if it is set.", GIVE_CARD),
    Trouble(r"CUDA_ERROR_UNKNOWN.*", "sudo modprobe nvidia_uvm, or restart the machine."),
    Trouble(r"Failed call to cuInit: .*", "Restart the machine: a driver that was updated needs that."),
    Trouble(
        r"CUDA driver version is insufficient.*|CUDA_ERROR_COMPAT_NOT_SUPPORTED.*|API call is not supported.*",
        f"Update the driver of this machine: {DRIVER_PAGE}",
    ),
    Trouble(
        r"compute capability [\d.]+\. The minimum required Cuda capability is [\d.]+", "The processor does the work."
    ),
    Trouble("No usable temporary directory", "Make room in /tmp.", "Start the container with --tmpfs /tmp"),
    Trouble(r"(?i).*out of memory.*", "nvidia-smi lists what else uses it."),
]


class Finding(NamedTuple):
    """Answer of one check.  hint: what to do, where there is something to do."""

    status: str
    text: str
    hint: str | None = None


def examine():
    """Yield (name, Finding) of each check that has something to say; one that fails itself is broken, never an end."""
    for name, check in CHECKS.items():
        try:
            if finding := check():
                yield name, finding
        except RetrainError as error:
            yield name, Finding(BROKEN, str(error), error.hint)
        except OSError as error:
            yield name, Finding(BROKEN, str(error), "Check its owner and permissions.")
        except Exception as error:  # whatever is wrong with this machine is what is being asked
            yield name, Finding(BROKEN, f"{type(error).__name__}: {error}", _reinstall())


def clean():
    """Delete the built backbones and the embedding store; both come back when needed.  Returns {path: bytes freed}."""
    freed = {}
    for path in _built_files() + _store_files():
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError as error:
            raise RetrainError(f"cannot delete {path}: {error.strerror}.", "Check its owner.") from error
        freed[path] = size
    return freed


def _check(name):
    def register(function):
        CHECKS[name] = function
        return function

    return register


@_check("Python")
def _python():
    text = f"{platform.python_version()}, {64 if sys.maxsize > 2**32 else 32} bit"
    if not PYTHON_SINCE <= sys.version_info[:2] < PYTHON_BEFORE or sys.maxsize < 2**32:
        return Finding(BROKEN, f"{text} is not supported", "Install a 64-bit Python 3.11, 3.12 or 3.13.")
    return Finding(FINE, text)


@_check("cores")
def _cores():
    return Finding(FINE, f"{cores()} of {os.cpu_count()} usable")


@_check("processor")
def _processor():
    description = _processor_description()
    found = [name for name, pattern in CPU_FEATURES.items() if re.search(pattern, description)]
    name = f"{platform.machine()} {' '.join(found)}".strip()
    if INT8_FEATURES.intersection(found):
        return Finding(FINE, f"{name}: int8 networks run at full speed")
    if found or not description:
        return Finding(FINE, f"{name}: no instructions of its own for int8 networks seen, so these run slower")
    return Finding(NOTE, f"{name}: neither AVX2 nor dot products, networks run slowly", "A newer processor is faster.")


def _processor_description():
    if sys.platform == "darwin":
        return (_answer("sysctl", "machdep.cpu", "hw.optional") or "").lower()
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


@_check("LiteRT")
def _litert():
    backbone = load_backbone(QUALITIES["fast"])
    image = np.zeros((1, backbone.spec.image_size, backbone.spec.image_size, 3), np.uint8)
    # The first ones pay for setting up an interpreter a thread.
    list(ordered_map(backbone.embed, [image] * 8 * cores()))
    start = time.perf_counter()
    list(ordered_map(backbone.embed, [image] * TRIAL_IMAGES))
    rate = TRIAL_IMAGES / (time.perf_counter() - start)
    return Finding(FINE, f"{_version('ai-edge-litert')}, {backbone.spec.name} embeds {rate:.0f} images/s")


@_check("TensorFlow")
def _tensorflow():
    version = _version("tensorflow")
    if version:
        return Finding(FINE, version)
    text = "not installed; needed only to build other backbones, to fine-tune, to export and for a GPU"
    return Finding(FINE, text, _setup_full())


@_check("GPU")
def _gpu():
    listed = _run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if listed and listed.returncode == 0 and listed.stdout.strip():
        return _card("; ".join(line.replace(", ", ", driver ") for line in listed.stdout.strip().splitlines()))
    if NVIDIA_DEVICE.exists():
        return _card("a card by NVIDIA")
    if listed:
        said = f"{listed.stdout}{listed.stderr}".strip().partition("\n")[0]
        return Finding(NOTE, f"nvidia-smi finds no card: {said}", f"Restart the machine, or see {DRIVER_PAGE}")
    if _stage() and NVIDIA_DRIVER.exists():
        return Finding(FINE, "none in this container; the processor does the work")
    if _has_nvidia_card():
        return Finding(NOTE, "a card by NVIDIA without its driver", f"Install the driver: {DRIVER_PAGE}")
    return Finding(FINE, "none; the processor does the work")


def _has_nvidia_card():
    # NVIDIA's number on the PCI bus is 10de, and a card that draws or computes is of class 03.
    return any(
        (device / "vendor").read_text().strip() == "0x10de" and (device / "class").read_text().startswith("0x03")
        for device in PCI_DEVICES.glob("*")
    )


def _card(name):
    if _stage() == "guess":
        return Finding(FINE, f"{name}, not needed in this image")
    if not _version("tensorflow"):
        return Finding(NOTE, f"{name}, unused without TensorFlow", _setup_full())
    # In a process of its own: TensorFlow takes seconds to import and may take the process down with it.
    trial = _run(
        sys.executable, "-c", GPU_TRIAL, timeout_s=TENSORFLOW_TIMEOUT_S, env=os.environ | GPU_TRIAL_ENVIRONMENT
    )
    if not trial:
        return Finding(NOTE, f"{name}, but TensorFlow gives no answer", "nvidia-smi shows what the card does.")
    if trial.returncode == 0:
        return Finding(FINE, f"{name}, used by TensorFlow")
    reason, hint = _why_no_gpu(trial.stderr)
    return Finding(NOTE, f"{name}, but TensorFlow cannot use it: {reason}", hint)


def _why_no_gpu(log):
    """Reason and hint, from what TensorFlow and CUDA wrote."""
    for trouble in GPU_TROUBLES:
        if said := re.search(trouble.pattern, log):
            return trouble.meaning or said[0], _remedy(trouble.hint, trouble.hint_in_image or trouble.hint)
    if "Cannot dlopen some GPU libraries" in log:
        missing = sorted(set(re.findall(r"load dynamic library '(.+?)'", log)))
        return f"{', '.join(missing)} cannot be loaded", _remedy(_how_to_load(missing), "make image-gpu")
    return log.strip().rpartition("\n")[2], _remedy("pip install 'tensorflow[and-cuda]'", "make image-gpu")


def _how_to_load(libraries):
    # TensorFlow 2.21 does not look for libcusolver where pip puts it.
    packages = importlib.metadata.distribution("tensorflow").locate_file("nvidia")
    found = {path.name: path.parent for path in Path(str(packages)).glob("*/lib/*.so.*")}
    if not found.keys() >= set(libraries):
        return "pip install 'tensorflow[and-cuda]'"
    return f"export LD_LIBRARY_PATH={':'.join(sorted({shlex.quote(str(found[library])) for library in libraries}))}"


@_check("toolkit")
def _toolkit():
    if _stage() not in ("full", "gpu") or not NVIDIA_DRIVER.exists():
        return None
    if shutil.which("nvidia-smi"):
        return Finding(FINE, "gave this container the card's driver")
    text = "the machine has a card, and this container has no nvidia-smi to use it by"
    return Finding(NOTE, text, f"Install nvidia-container-toolkit; scripts/doctor.sh says how.  {GIVE_CARD}")


@_check("engine")
def _engine():
    if _stage():
        return Finding(FINE, f"this is a container of the image retrain:{_stage()}")
    versions = {
        "docker": _answer("docker", "info", "--format", "{{.ServerVersion}}", timeout_s=ENGINE_TIMEOUT_S),
        "podman": _answer("podman", "info", "--format", "{{.Version.Version}}", timeout_s=ENGINE_TIMEOUT_S),
    }
    answers = [f"{engine} {version} answers" for engine, version in versions.items() if version]
    return Finding(FINE, ", ".join(answers) or "no docker or podman answers; retrain runs straight on this machine")


@_check("libmagic")
def _libmagic():
    from PIL import Image

    png = io.BytesIO()
    Image.new("1", (1, 1)).save(png, "PNG")
    media_type = sniff(png.getvalue())
    if media_type != "image/png":
        return Finding(BROKEN, f"takes a PNG for {media_type}", _reinstall())
    return Finding(FINE, f"python-magic {_version('python-magic')} tells pictures from other files")


@_check("HEIC, AVIF")
def _modern_pictures():
    from PIL import features

    missing = [] if features.check("avif") else ["AVIF"]
    try:
        import pi_heif  # noqa: F401
    except ImportError:
        missing.append("HEIC")
    if missing:
        return Finding(NOTE, f"{' and '.join(missing)} pictures cannot be read", _reinstall())
    return Finding(FINE, "both are read")


@_check("caches")
def _caches():
    built, kept = (sum(path.stat().st_size for path in files) for files in (_built_files(), _store_files()))
    text = f"{megabytes(built)} of built backbones in {cache_folder()}, {megabytes(kept)} of embeddings in {tf_files()}"
    return Finding(FINE, text, "retrain doctor --clean empties both." if built or kept else None)


def _built_files():
    return [path for path in cache_folder().rglob("*") if path.is_file()]


def _store_files():
    store = store_path(default_model_dir())
    files = [path for end in ("", "-wal", "-shm", "-journal") if (path := Path(f"{store}{end}")).is_file()]
    return files + sorted(store.parent.glob(f"{store.name}.broken-*"))


@_check("data folder")
def _data_folder():
    folder = tf_files()
    if folder.exists() and not folder.is_dir():
        return Finding(BROKEN, f"{folder} is not a folder", "Move it away, or name another folder in TF_FILES.")
    if _stage() and not _is_mounted(folder):
        return _not_mounted(folder)
    if not folder.exists():
        if os.access(_existing(folder), os.W_OK):
            return Finding(FINE, f"{folder} is not there yet; the first training makes it")
        return Finding(BROKEN, f"{folder} cannot be made here", "Change to another folder, or name one in TF_FILES.")
    if _stage() and os.statvfs(folder).f_flag & os.ST_RDONLY:
        return Finding(
            NOTE, f"{folder} is mounted to be read only, so nothing can be trained", "Mount it without readonly."
        )
    closed = [path for path in (folder, *folder.iterdir()) if not os.access(path, os.W_OK)]
    if closed:
        return Finding(
            BROKEN,
            f"{closed[0]} cannot be written to{_owner(closed[0])}",
            f'sudo chown -R "$USER" {shlex.quote(str(folder.absolute()))}',
        )
    return Finding(FINE, f"{folder} {'is mounted and ' if _stage() else ''}can be written to{_owner(folder)}")


def _is_mounted(folder):
    place = _existing(folder).resolve()
    return any(path.is_mount() for path in (place, *place.parents) if path != Path("/"))


def _not_mounted(folder):
    if "RETRAIN_PROGRAM" in os.environ and not folder.exists():  # a wrapper started this, and mounts what is there
        return Finding(FINE, f"{folder} is not there yet; the first training makes it")
    return Finding(
        NOTE,
        f"{folder} is no mounted folder, so nothing in it is kept",
        f"Start the container with --mount type=bind,source=FOLDER,target={folder.absolute()}",
    )


def _owner(path):
    if _stage():
        return f" (owner {path.stat().st_uid})"  # who has which name is known outside alone
    try:
        return f" (owner {path.owner()})"
    except KeyError:
        return f" (owner {path.stat().st_uid})"
    except NotImplementedError:  # Windows
        return ""


@_check("model")
def _model():
    folder = default_model_dir()
    try:
        model = load_model(folder, faces=None)
    except RetrainError:
        if folder.exists():
            raise
        return Finding(FINE, "none yet", "retrain train DATA makes one.")
    return Finding(FINE, f"{folder} knows {len(model.classes)} classes")


@_check("disk")
def _disk():
    place = _existing(tf_files())
    free = shutil.disk_usage(place).free
    if free < NEEDED_BYTES:
        return Finding(BROKEN, f"only {megabytes(free)} free at {place}", "Make room; retrain doctor --clean helps.")
    if free < COMFORTABLE_BYTES:
        return Finding(NOTE, f"{megabytes(free)} free at {place}", "Make room; retrain doctor --clean helps.")
    return Finding(FINE, f"{megabytes(free)} free at {place}")


def _existing(path):
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


@_check("byte code")
def _byte_code():
    # Asked last: by now all that a guess needs is loaded.
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    sources = [spec for spec in specs if spec and spec.has_location and spec.cached]
    missing = [spec for spec in sources if not Path(spec.cached).exists()]
    if missing:
        places = sorted({str(_compiled_together(spec)) for spec in missing})
        return Finding(
            NOTE,
            f"{len(missing)} of {len(sources)} loaded modules are compiled anew at each start",
            _remedy(f"{sys.executable} -m compileall -q {' '.join(places)}", "make image builds it anew."),
        )
    return Finding(FINE, f"all {len(sources)} loaded modules are compiled")


def _compiled_together(spec):
    """Folder or file to compile for a module: the standard library, its top-level package, or itself."""
    top = spec.name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return Path(os.__file__).parent
    file = Path(sys.modules[top].__file__ or spec.origin)
    return file.parent if file.stem == "__init__" else file


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _answer(*command, timeout_s=10):
    """What a program prints, or None where it is missing, fails or does not answer in time."""
    done = _run(*command, timeout_s=timeout_s)
    return done.stdout.strip() if done and done.returncode == 0 else None


def _run(*command, timeout_s=10, env=None):
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            env=env,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _stage():
    """Which of our images this is: guess, full or gpu; None outside of them."""
    return os.environ.get("RETRAIN_STAGE")


def _remedy(here, in_image):
    return in_image if _stage() else here


def _reinstall():
    return _remedy("Set up again: make setup, or pip install --force-reinstall retrain.", "make image builds it anew.")


def _setup_full():
    return _remedy("make setup-full, or pip install 'retrain[tf]'.", "make image builds retrain:full, which has it.")


def megabytes(count):
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
