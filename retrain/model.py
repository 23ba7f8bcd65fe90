"""The model on disk: a folder with `model.json`, `head.npz` and the backbone files.  Nothing is ever unpickled."""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from retrain.backbones import Backbone, BackboneSpec
from retrain.calibrate import Limits
from retrain.errors import RetrainError
from retrain.faces import FINGERPRINT, FaceBackbone, crop_main
from retrain.head import Head
from retrain.unknown import Detector, from_arrays, to_arrays

FORMAT_VERSION = 4
READABLE = 1, 2, 3, 4  # 1 knows nothing of the unknown, 2 nothing of several labels a picture, 3 nothing of faces
WRITTEN = {"softmax": 2, "sigmoid": 3}  # what an older retrain can read, it shall
WRITTEN_OF_FACES = 4
SCRATCH = ".new-"  # in the name of a folder in which a model is being written
MANIFEST = "model.json"
HEAD_FILE = "head.npz"
TRUST_FILE = "trust.npz"
REPORT = "report.html"
# All that a model folder needs.
OURS = re.compile(r"model\.json|head\.npz|trust\.npz|report\.html|backbone\d*\.(tflite|pb)|weights\d*\.npz")

_parser = threading.Lock()


@dataclass
class Model:
    """Everything that guessing needs.

    detector: tells the unknown; None where there were too few pictures.  reject_rate: the share of pictures guessed
    right that it may call unknown.  learned: the `learned_marks`.  info: what else is worth keeping (metrics, counts,
    options, versions).
    """

    classes: list[str]
    backbones: list[Backbone]
    head: Head
    temperature: float = 1.0
    detector: Detector | None = None
    limits: Limits = field(default_factory=Limits)
    reject_rate: float = 0.0
    learned: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    info: dict = field(default_factory=dict)

    @property
    def of_faces(self):
        """Whether it knows faces, cut out of pictures, rather than pictures."""
        return isinstance(self.backbones[0], FaceBackbone)

    def view(self, image):
        """What it sees of a decoded picture: all of it, or the face that it shows.  Raises ImageError."""
        return crop_main(image) if self.of_faces else image


def learned_marks(digests):
    """What a model keeps of the pictures it learned, to know them again: uint64 (n,), sorted, of their sha256."""
    return np.sort(np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64))


def save_model(model, folder, report=None):
    """Write a model folder in one step: a reader sees the old model or the new one.

    report: HTML of the page that lies beside the model.
    Files in the folder that are not the model's stay there.  Raises RetrainError where it cannot be written.
    """
    check_writable(folder)
    real = _real(folder)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{real.name}{SCRATCH}", dir=real.parent))
        try:
            _write_files(model, scratch, report)
            _swap(scratch, real)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise RetrainError(
            f"the model cannot be written to {folder}: {error.strerror}.",
            "Free some space or give --model-dir another place.",
        ) from error


def check_writable(folder):
    """Raise RetrainError now, before any work, where a model could not be saved to this folder later."""
    real = _real(folder)
    try:
        _recover(real)
        if real.is_dir() and _is_foreign(real):
            raise RetrainError(
                f"{folder} is not empty and holds no model.", "Give --model-dir a new or a model's folder."
            )
        real.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=real.parent):
            pass
        if real.exists() and not real.is_dir():
            raise NotADirectoryError(None, "it is a file")
    except OSError as error:
        raise RetrainError(
            f"cannot write to {folder}: {error.strerror}.", "Check its permissions, or give --model-dir another place."
        ) from error


def load_model(folder, faces: bool | None = False):
    """Model of a folder.  Raises RetrainError where there is none, or it is newer, incomplete or damaged.

    faces: whether it must be one of faces, or must be none; None takes either.
    """
    folder = Path(folder)
    while True:
        before = identity(folder)
        try:
            return _require(_load(folder), folder, faces)
        except RetrainError:
            # A new model may have been moved in between two reads; what is wrong in one that stands still is wrong.
            if identity(folder) == before:
                raise


def _require(model, folder, faces):
    # Here, so that whatever loads a model, now or later, gets none of faces unless it asks for one.
    if faces is not None and faces != model.of_faces:
        if faces:
            raise RetrainError(
                f"the model in {folder} was trained on whole pictures, not on faces.",
                "Leave --faces out, or train one on faces: retrain train DATA --faces",
            )
        raise RetrainError(
            f"the model in {folder} knows people by their faces.",
            "Only guess, sort and evaluate take it, and only with --faces; --model-dir names another model.",
        )
    return model


def identity(folder):
    """Something that is another one for each model that was saved to a folder; None where there is none."""
    try:
        status = os.stat(Path(folder) / MANIFEST)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def load_manifest(path):
    """What `model.json` says, of a model folder or of that file alone.  Raises RetrainError where it cannot be read."""
    path = Path(path)
    if not path.is_file():
        return _read_manifest(path)[1]
    return _parse_manifest(path, _read(path))


def find_classes(folder):
    """Sorted labels of the model in a folder, none where there is no model.  Raises RetrainError on a damaged one."""
    homes = Path(folder), _previous(_real(folder))
    if not any((home / MANIFEST).exists() for home in homes):
        return []
    return sorted(map(str, _read_manifest(Path(folder))[1]["classes"]))


def find_models(folder):
    """The folders in a folder that hold a model, or the rest of one."""
    return sorted(path.parent for path in Path(folder).glob(f"*/{MANIFEST}"))


def remove_unfinished(folder):
    """Delete what trainings that were killed while they saved a model have left in a folder."""
    for path in Path(folder).glob(f".*{SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def remove_model(folder):
    """Delete a model, and nothing else that lies in its folder.  Raises RetrainError where that cannot be."""
    real = _real(folder)
    try:
        _recover(real)
        # The manifest last: what was stopped is then still known for a model.
        for path in sorted(real.iterdir(), key=lambda path: path.name == MANIFEST):
            if OURS.fullmatch(path.name):
                path.unlink()
        if not any(real.iterdir()):
            real.rmdir()
    except OSError as error:
        what = f"the model in {folder} cannot be deleted: {error.strerror}."
        raise RetrainError(what, "Delete the folder by hand.") from error


def _load(folder):
    home, manifest = _read_manifest(folder)
    try:
        contents = {name: _read_checked(home / name, digest) for name, digest in manifest["files"].items()}
        arrays = _unpacked(contents[HEAD_FILE])
        head = Head(arrays["weights"], arrays["intercept"], _thresholds(manifest))
        backbones = [
            Backbone(BackboneSpec(**entry["spec"]), contents[entry["file"]], _weights(home, entry))
            for entry in manifest["backbones"]
        ]
        if _crops_of(manifest, folder):
            backbones = list(map(FaceBackbone.of, backbones))
        model = Model(list(manifest["classes"]), backbones, head, float(manifest["temperature"]), info=manifest["info"])
        if TRUST_FILE in contents:
            _read_trust(model, contents[TRUST_FILE], manifest["reject_rate"])
        size = len(set(model.classes)), sum(backbone.spec.embedding_size for backbone in backbones)
        if head.weights.shape != size or head.intercept.shape != size[:1]:
            raise ValueError("classes, backbones and head do not fit together")
        if not model.temperature > 0:
            raise ValueError("a temperature of 0 or less")
    except RetrainError:
        raise
    except Exception as error:  # damaged content may raise anything
        raise RetrainError(f"the model in {folder} is damaged: {error}.", "Train again.") from error
    return model


def _crops_of(manifest, folder):
    """Whether a model is of faces.  Raises RetrainError where these were cut out otherwise than now."""
    crops = manifest["faces"] if manifest["format_version"] == WRITTEN_OF_FACES else None
    if crops not in (None, FINGERPRINT):
        raise RetrainError(f"the model in {folder} has learned faces cut out in another way.", "Train again.")
    return crops is not None


def _read_manifest(folder):
    """The folder that the model is read from, and what its manifest says."""
    try:
        home, text = _find_manifest(folder)
    except OSError as error:
        raise _unreadable(folder / MANIFEST, error) from error
    return home, _parse_manifest(folder / MANIFEST, text)


def _parse_manifest(path, text):
    try:
        manifest = json.loads(text)
        version = manifest["format_version"]
        if version in READABLE and not all(OURS.fullmatch(name) for name in files_of(manifest)):
            raise ValueError("it names foreign files")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RetrainError(f"{path} is damaged: {error}.", "Train again.") from error
    if version not in READABLE:
        raise RetrainError(
            f"{path} has format {version}; this retrain reads format {FORMAT_VERSION}.",
            "Install the newest retrain, or train again.",
        )
    return manifest


def files_of(manifest):
    """{name: sha256} of all files of a model but `model.json`."""
    further = [entry["weights"] for entry in manifest["backbones"] if "weights" in entry]
    return manifest["files"] | {each["file"]: each["sha256"] for each in further}


def _weights(home, entry):
    """Function that reads the Keras weights of a network that has learned on: guessing has no use for them."""
    if "weights" not in entry:
        return None
    return partial(_read_checked, home / entry["weights"]["file"], entry["weights"]["sha256"])


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path, error):
    return RetrainError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.")


def _find_manifest(folder):
    for home in (folder, _previous(_real(folder))):
        with suppress(FileNotFoundError, NotADirectoryError):
            return home, (home / MANIFEST).read_bytes()
    raise RetrainError(f"there is no model in {folder}.", "retrain train DATA makes one.")


def _read_checked(path, digest):
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RetrainError(f"the model lacks {path}: {error.strerror}.", "Train again.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise RetrainError(f"{path} is damaged: its checksum is another.", "Train again.")
    return content


def _write_files(model, folder, report):
    arrays = {"weights": model.head.weights, "intercept": model.head.intercept}
    files = {HEAD_FILE: _packed(arrays), TRUST_FILE: _packed(_trust(model))}
    entries, further = [], {}
    for number, backbone in enumerate(model.backbones):
        name = f"backbone{number or ''}{backbone.suffix}"
        files[name] = backbone.content
        entries.append({"file": name, "spec": vars(backbone.spec)})
        if backbone.weights:
            weights = f"weights{number or ''}.npz"
            further[weights] = backbone.weights()
            entries[-1]["weights"] = {"file": weights, "sha256": hashlib.sha256(further[weights]).hexdigest()}
    manifest = {
        "format_version": WRITTEN[model.head.kind],
        "classes": model.classes,
        "backbones": entries,
        "temperature": model.temperature,
        "reject_rate": model.reject_rate,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "info": model.info,
    }
    if model.of_faces:
        manifest |= {"format_version": WRITTEN_OF_FACES, "faces": FINGERPRINT}
    if model.head.thresholds is not None:
        manifest["thresholds"] = dict(zip(model.classes, model.head.thresholds.tolist(), strict=True))
    files |= further | {MANIFEST: json.dumps(manifest, indent=2).encode()}
    if report is not None:
        files[REPORT] = report.encode("utf-8", "backslashreplace")
    for name, content in files.items():
        with open(folder / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    folder.chmod(0o777 & ~_umask())


def _trust(model):
    """Arrays by name of all that tells how far a guess is to be trusted."""
    arrays = {"learned": model.learned, **vars(model.limits)}
    return arrays | (to_arrays(model.detector) if model.detector else {})


def _read_trust(model, content, reject_rate):
    arrays = _unpacked(content)
    model.learned, model.reject_rate = arrays.pop("learned"), float(reject_rate)
    model.limits = Limits(arrays.pop("confidences"), arrays.pop("scores"))
    limits = model.limits.confidences, model.limits.scores
    if not all(values.ndim == 1 and np.isfinite(values).all() and (np.diff(values) >= 0).all() for values in limits):
        raise ValueError("its limits are none")
    if not 0 <= model.reject_rate < 1 or (len(model.limits.scores) and not arrays):
        raise ValueError("it cannot tell the unknown")
    if arrays:
        model.detector = from_arrays(arrays)
        score = model.detector.scores(np.zeros_like(model.head.weights[:1]))  # fails where they do not fit together
        if score.shape != (1,) or not np.isfinite(score).all():
            raise ValueError("it cannot tell the unknown")


def _unpacked(content):
    # The parser of Python 3.11, which NumPy reads headers with, fails at random in threads.
    with _parser, np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def _thresholds(manifest):
    """Thresholds of the classes, float32 (C,); None but in format 3, which has them.  Raises ValueError."""
    if manifest["format_version"] != WRITTEN["sigmoid"]:
        return None
    thresholds = np.array([manifest["thresholds"][name] for name in manifest["classes"]], np.float32)
    if not ((thresholds >= 0) & (thresholds <= 1)).all():  # what is no number lies in no range
        raise ValueError("a threshold below 0 or above 1")
    return thresholds


def _packed(arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _swap(scratch, folder):
    if folder.exists():
        folder.rename(_previous(folder))
    scratch.rename(folder)
    _recover(folder)


def _recover(folder):
    """Finish what `_swap` began; it may have been killed after any step."""
    previous = _previous(folder)
    if not previous.is_dir():
        return
    with suppress(OSError):
        if not (folder / MANIFEST).exists():
            previous.rename(folder)  # fails where somebody filled the folder since
            return
        for path in previous.iterdir():
            if OURS.fullmatch(path.name):
                path.unlink()
            elif not os.path.lexists(folder / path.name):
                path.rename(folder / path.name)
        previous.rmdir()


def _is_foreign(folder):
    """Whether a folder holds something, and that is no model of ours, be it a damaged one."""
    try:
        return "format_version" not in json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return any(folder.iterdir())
    except (ValueError, TypeError):
        return False


def _real(folder):
    """Path without links: what is renamed is the folder itself."""
    return Path(os.path.realpath(folder))


def _previous(folder):
    return folder.parent / f".{folder.name}.previous"


def _umask():
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
