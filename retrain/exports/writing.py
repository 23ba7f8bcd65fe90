"""Write exports: each into a folder of its own, which is there whole or not at all."""

import hashlib
import json
import logging
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from retrain.errors import RetrainError, writing_to
from retrain.exports import FORMATS, checking, load_format, pb, require_formats
from retrain.exports.describing import Subject, as_text, describe
from retrain.exports.metadata import LABELS
from retrain.exports.readme import render
from retrain.exports.refitting import find_pictures, in_float
from retrain.model import load_model
from retrain.options import ExportOptions, default_export, default_model_dir
from retrain.recipes.training import store_path

README, PROGRAM, METADATA = "README.md", "run.py", "metadata.json"

log = logging.getLogger("retrain")


def export(formats, options=ExportOptions()):  # noqa: B008 - frozen
    """Write a trained model in other formats, each to `out/<format>/`, compared with our own before it is there.

    formats: keys of FORMATS.  An earlier export at that place is replaced, what is not one is never touched.
    Returns [{"format", "folder", "head", "checked_on", "differences", "seconds"}].  Raises RetrainError.
    """
    require_formats(formats)
    model_dir = Path(options.model_dir or default_model_dir())
    out = Path(options.out or default_export())
    trained = load_model(model_dir)
    for name in formats:
        _require_ours(out / name)
    pictures = find_pictures(trained, model_dir, options.data)
    sample = _sample(pictures, options.data)
    own = trained, {"refitted": False, "why": None}
    floated = in_float(trained, model_dir, pictures) if any(FORMATS[name].in_float for name in formats) else own
    results = []
    for name in dict.fromkeys(formats):
        start = time.perf_counter()
        model, head = floated if FORMATS[name].in_float else own
        described = describe(model) | {"format": name, "head": head}
        subject = Subject(model, model_dir, described)
        result = _export(name, subject, trained, out / name, sample)
        if name == "pb" and not options.out:
            _put_beside_model((out / name / pb.FILE).read_bytes(), model_dir)
        results.append(result | {"seconds": round(time.perf_counter() - start, 3)})
    return results


def _sample(pictures, data):
    """Pictures as JPEGs, and what they are.  Raises RetrainError where those of `data` cannot be read."""
    jpegs = checking.sample(pictures)
    if data and not jpegs:
        raise RetrainError(f"there are no pictures in {data}.", "Name a folder of pictures, or leave --data out.")
    if not jpegs:
        jpegs = checking.draw()
        return jpegs, f"{len(jpegs)} drawn pictures"
    return jpegs, f"{len(jpegs)} {'pictures that --data named' if data else 'of its own pictures'}"


def _export(name, subject, trained, folder, sample):
    """Write one format, compare it, and put it in its place.  sample: see `_sample`."""
    module, (jpegs, called) = load_format(name), sample
    with writing_to(folder), ExitStack() as stack:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.parent)))
        new = scratch / name
        new.mkdir()
        module.write(subject, new)
        told = {"format": name, "folder": str(folder), "head": subject.described["head"], "checked_on": None}
        told["differences"] = _compare(name, module, subject, trained, jpegs, new) if FORMATS[name].is_run else {}
        if told["differences"]:
            told["checked_on"] = called
        (new / LABELS).write_text(subject.labels, "utf-8")
        for file, text in zip((README, PROGRAM), render(subject, module, name, told), strict=True):
            (new / file).write_text(text, "utf-8")
        kept = {"checked_on": told["checked_on"], "differences": told["differences"], "files": _files(new)}
        (new / METADATA).write_text(as_text(subject.described | kept), "utf-8")
        _swap(new, folder, scratch / "previous")
    return told


def _swap(new, folder, previous):
    """Put a folder in the place of another, which stays where that fails."""
    if folder.exists():
        folder.rename(previous)
    try:
        new.rename(folder)
    except OSError:
        if previous.exists():
            previous.rename(folder)
        raise


def _compare(name, module, subject, trained, jpegs, folder):
    """{key of COMPARED: the difference}.  Raises RetrainError where one is over its bound."""
    pixels, guessed = checking.squares(jpegs, subject.described), checking.guessed(trained, jpegs)
    found = checking.run_on(module.run(folder), pixels)
    told = {"pixels": checking.difference(found, checking.expected(subject.model, pixels))}
    bound = ("max", checking.BOUND) if FORMATS[name].in_float else ("mean", checking.LOOSE_BOUND)
    checking.require_near(name, told["pixels"], *bound)
    told["guess"] = checking.difference(found, guessed)
    if hasattr(module, "run_bytes"):
        of_bytes = checking.run_on(module.run_bytes(folder), jpegs)
        checking.require_near(name, checking.difference(of_bytes, found), "mean", checking.LOOSE_BOUND)
        told["bytes"] = checking.difference(of_bytes, guessed)
    return told


def _require_ours(folder):
    """Raise RetrainError where a folder holds what no export has written, or what was changed since."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        written = json.loads((folder / METADATA).read_bytes())["files"]
        if _files(folder) == written:
            return
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise RetrainError(
        f"{folder} is there already, and not as an export has left it.", "Name another place: --out FOLDER."
    )


def _files(folder):
    """{path: sha256} of what is in an export but METADATA, which names it; None for what is no file, such as a link."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths if path != folder / METADATA}


def _sha256(path):
    if path.is_symlink() or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _put_beside_model(content, model_dir):
    """The frozen graph where the programs of old look for it, beside `retrained_labels.txt`."""
    path = store_path(model_dir).with_name(pb.FILE)
    if path.exists() and not (path.is_file() and pb.MARK in path.read_bytes()):
        log.warning("%s is another program's: left as it is.", path)
        return
    pb.put(content, path)
