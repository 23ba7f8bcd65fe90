"""The model on disk: a folder with `model.json`, `head.npz` and the backbone files.  Nothing is ever unpickled."""

import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from retrain.backbones import Backbone, BackboneSpec
from retrain.errors import RetrainError
from retrain.head import Head

FORMAT_VERSION = 1
MANIFEST = "model.json"
HEAD_FILE = "head.npz"
REPORT = "report.html"

log = logging.getLogger("retrain")


@dataclass
class Model:
    """Everything that guessing needs.  info: what else is worth keeping (metrics, counts, options, versions)."""

    classes: list[str]
    backbones: list[Backbone]
    head: Head
    temperature: float = 1.0
    info: dict = field(default_factory=dict)


def save_model(model, folder, report=None):
    """Write a model folder in one step: a reader sees the old model or the new one.

    report: HTML of the page that lies beside the model.
    Files in the folder that are not the model's stay there.  Raises RetrainError where it cannot be written.
    """
    folder = Path(folder)
    check_writable(folder)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
        try:
            _write_files(model, scratch, report)
            _swap(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise RetrainError(
            f"the model cannot be written to {folder}: {error.strerror}.",
            "Free some space or give --model-dir another place.",
        ) from error


def check_writable(folder):
    """Raise RetrainError now, before any work, where a model could not be saved to this folder later."""
    folder = Path(folder)
    _recover(folder)
    if folder.is_dir() and not (folder / MANIFEST).exists() and any(folder.iterdir()):
        raise RetrainError(f"{folder} is not empty and holds no model.", "Give --model-dir a new or a model's folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(None, "it is a file")
    except OSError as error:
        raise RetrainError(
            f"cannot write to {folder}: {error.strerror}.", "Check its permissions, or give --model-dir another place."
        ) from error


def load_model(folder):
    """Model of a folder.  Raises RetrainError where there is none, or it is newer, incomplete or damaged."""
    folder = Path(folder)
    try:
        return _load(folder)
    except RetrainError:
        # A new model may have been moved in between two reads; what is wrong twice is wrong.
        return _load(folder)


def _load(folder):
    manifest = _read_manifest(folder)
    contents = {name: _read_checked(folder / name, digest) for name, digest in manifest["files"].items()}
    try:
        with np.load(io.BytesIO(contents[HEAD_FILE]), allow_pickle=False) as arrays:
            head = Head(arrays["weights"], arrays["intercept"])
        backbones = [
            Backbone(BackboneSpec(**entry["spec"]), contents[entry["file"]]) for entry in manifest["backbones"]
        ]
        model = Model(list(manifest["classes"]), backbones, head, float(manifest["temperature"]), manifest["info"])
        size = len(model.classes), sum(backbone.spec.embedding_size for backbone in backbones)
        if head.weights.shape != size or head.intercept.shape != size[:1]:
            raise ValueError("classes, backbones and head do not fit together")
    except (KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile, EOFError) as error:
        raise RetrainError(f"the model in {folder} is damaged: {error}.", "Train again.") from error
    return model


def _read_manifest(folder):
    path = (folder if (folder / MANIFEST).exists() else _previous(folder)) / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        version = manifest["format_version"]
        if not all(Path(name).name == name for name in manifest["files"]):
            raise ValueError("a file outside the folder")
    except (FileNotFoundError, NotADirectoryError):
        raise RetrainError(f"there is no model in {folder}.", "retrain train DATA makes one.") from None
    except OSError as error:
        raise RetrainError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RetrainError(f"{path} is damaged: {error}.", "Train again.") from error
    if version != FORMAT_VERSION:
        raise RetrainError(
            f"the model in {folder} has format {version}; this retrain reads format {FORMAT_VERSION}.",
            "Install the newest retrain, or train again.",
        )
    return manifest


def _read_checked(path, digest):
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RetrainError(f"the model lacks {path}: {error.strerror}.", "Train again.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise RetrainError(f"{path} is damaged: its checksum is another.", "Train again.")
    return content


def _write_files(model, folder, report):
    buffer = io.BytesIO()
    np.savez(buffer, weights=model.head.weights, intercept=model.head.intercept)
    files = {HEAD_FILE: buffer.getvalue()}
    entries = []
    for number, backbone in enumerate(model.backbones):
        name = f"backbone{number or ''}.tflite"
        files[name] = backbone.content
        entries.append({"file": name, "spec": vars(backbone.spec)})
    manifest = {
        "format_version": FORMAT_VERSION,
        "classes": model.classes,
        "backbones": entries,
        "temperature": model.temperature,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "info": model.info,
    }
    files[MANIFEST] = json.dumps(manifest, indent=2).encode()
    if report is not None:
        files[REPORT] = report.encode("utf-8", "backslashreplace")
    for name, content in files.items():
        with open(folder / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    folder.chmod(0o777 & ~_umask())


def _swap(scratch, folder):
    previous = _previous(folder)
    if folder.exists():
        ours = {MANIFEST, REPORT, *_files_of(folder)}
        for path in folder.iterdir():
            if path.name not in ours and not (scratch / path.name).exists():
                path.rename(scratch / path.name)
        folder.rename(previous)
    scratch.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def _files_of(folder):
    try:
        return set(json.loads((folder / MANIFEST).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _recover(folder):
    """Finish what a kill between the two renames of `_swap` left."""
    if _previous(folder).is_dir():
        if folder.exists():
            shutil.rmtree(_previous(folder), ignore_errors=True)
        else:
            _previous(folder).rename(folder)


def _previous(folder):
    return folder.with_name(f".{folder.name}.previous")


def _umask():
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
