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
TENSORFLOW_TIMEOUT_S = 60  # a first import without byte code takes 7 s, slow disks more
REINSTALL = "Set up again: make setup, or pip install --force-reinstall retrain."
SETUP_FULL = "make setup-full, or pip install 'retrain[tf]'."

# How Linux (/proc/cpuinfo) and macOS (sysctl) name the instructions that speed decides on.
CPU_FEATURES = {
    "avx2": r"\bavx2\b|\bavx2_0: 1",
    "avx512_vnni": r"\bavx512_vnni\b|\bavx512vnni: 1",
    "avx_vnni": r"\bavx_vnni\b",
    "dotprod": r"\basimddp\b|\bfeat_dotprod: 1",
}
INT8_FEATURES = {"avx512_vnni", "avx_vnni", "dotprod"}

CHECKS: dict[str, Callable] = {}


class Finding(NamedTuple):
    """Answer of one check.  hint: what to do, where there is something to do."""

    status: str
    text: str
    hint: str | None = None


def examine():
    """Yield (name, Finding) of each check; one that fails itself is broken, never an end."""
    for name, check in CHECKS.items():
        try:
            yield name, check()
        except RetrainError as error:
            yield name, Finding(BROKEN, str(error), error.hint)
        except OSError as error:
            yield name, Finding(BROKEN, str(error), "Check its owner and permissions.")
        except Exception as error:  # whatever is wrong with this machine is what is being asked
            yield name, Finding(BROKEN, f"{type(error).__name__}: {error}", REINSTALL)


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
    return Finding(
        FINE, "not installed; needed only to build other backbones, to fine-tune, to export and for a GPU", SETUP_FULL
    )


@_check("GPU")
def _gpu():
    if not shutil.which("nvidia-smi"):
        return Finding(FINE, "none; the processor does the work")
    cards = _answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    if not cards:
        return Finding(NOTE, "nvidia-smi is there but finds no card", "Check the NVIDIA driver.")
    cards = ", ".join(cards.splitlines())
    if not _version("tensorflow"):
        return Finding(NOTE, f"{cards}, unused without TensorFlow", SETUP_FULL)
    # In a process of its own: TensorFlow takes seconds to import and may take the process down with it.
    code = "import tensorflow; print(len(tensorflow.config.list_physical_devices('GPU')))"
    if (_answer(sys.executable, "-c", code, timeout_s=TENSORFLOW_TIMEOUT_S) or "0") == "0":
        return Finding(NOTE, f"{cards}, not seen by TensorFlow", "pip install 'tensorflow[and-cuda]'.")
    return Finding(FINE, f"{cards}, seen by TensorFlow")


@_check("engine")
def _engine():
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
        return Finding(BROKEN, f"takes a PNG for {media_type}", REINSTALL)
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
        return Finding(NOTE, f"{' and '.join(missing)} pictures cannot be read", REINSTALL)
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
    if not folder.exists():
        if os.access(_existing(folder), os.W_OK):
            return Finding(FINE, f"{folder} is not there yet; the first training makes it")
        return Finding(BROKEN, f"{folder} cannot be made here", "Change to another folder, or name one in TF_FILES.")
    closed = [path for path in (folder, *folder.iterdir()) if not os.access(path, os.W_OK)]
    if closed:
        return Finding(
            BROKEN,
            f"{closed[0]} cannot be written to{_owner(closed[0])}",
            f'sudo chown -R "$USER" {shlex.quote(str(folder))}',
        )
    return Finding(FINE, f"{folder} can be written to{_owner(folder)}")


def _owner(path):
    try:
        return f" (owner {path.owner()})"
    except (NotImplementedError, KeyError):  # Windows; an owner from inside a container
        return ""


@_check("model")
def _model():
    folder = default_model_dir()
    try:
        model = load_model(folder)
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
            f"{sys.executable} -m compileall -q {' '.join(places)}",
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
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def megabytes(count):
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
