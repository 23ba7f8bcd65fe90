"""Export: the split data set as JPEGs of the input size, for those who train with something else."""

import hashlib
import io
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from retrain.dataset import require_folder, require_new_folder
from retrain.errors import RetrainError, writing_to
from retrain.images import ImageError, decode, read, to_input
from retrain.multilabel.data import labels_files
from retrain.options import QUALITIES, DatasetOptions, TrainOptions, default_model_dir
from retrain.parallel import ordered_map
from retrain.progress import track
from retrain.recipes.names import Names, folder_names, safe_name
from retrain.recipes.preparing import prepare
from retrain.recipes.training import skipped_rows, store_path

MANIFEST = "manifest.jsonl"
JPEG = {"quality": 95, "subsampling": 0}


def export_dataset(data, out, options=DatasetOptions()):  # noqa: B008 - frozen
    """Write each picture of a data set, as the networks see it, to `out/{training,validation,testing}/<class>/`.

    The pictures and their parts are those of `train` with the same options; the same pictures give the same bytes.
    `out` must be new or empty, and holds nothing until all is written.  `out/manifest.jsonl` has a line a picture:
    {"file", "part", "label", "source", "source_sha256", "sha256"}.  Raises RetrainError.
    Returns {"out", "classes", "images", "parts": {part: images}, "left_out", "skipped", "seconds"}.
    """
    start = time.perf_counter()
    if options.multi_label or labels_files(data):
        raise RetrainError(
            f"the pictures of {data} have several labels, and a folder a class cannot hold them.",
            "Use them as they are.",
        )
    out = Path(os.path.realpath(out))
    _check_out(out, data)
    prepared = prepare(
        data, QUALITIES[TrainOptions.quality], options, store_path(options.model_dir or default_model_dir())
    )
    entries = _entries(prepared)
    with writing_to(out), ExitStack() as stack:
        out.mkdir(parents=True, exist_ok=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".retrain-export-", dir=out)))
        written = ordered_map(lambda entry: _write(entry, scratch, options), entries)
        lines = []
        for entry, result in zip(entries, track(written, "Exporting", len(entries)), strict=True):
            if isinstance(result, ImageError):
                prepared.skipped.append((Path(entry["source"]), result))
            else:
                lines.append(entry | {"sha256": result})
        (scratch / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines), "ascii")
        for path in sorted(scratch.iterdir()):
            path.rename(out / path.name)
    return {
        "out": str(out),
        "classes": prepared.dataset.classes,
        "images": len(lines),
        "parts": dict(sorted(Counter(line["part"] for line in lines).items())),
        "left_out": prepared.left_out,
        "skipped": skipped_rows(prepared),
        "seconds": round(time.perf_counter() - start, 3),
    }


def _check_out(out, data):
    require_new_folder(out)
    if out.is_relative_to(os.path.realpath(require_folder(data))):
        raise RetrainError(f"{out} lies in {data}, whose pictures it would join.", "Name a folder elsewhere.")


def _entries(prepared):
    """Lines of the manifest, but for what is known only once the file is written."""
    dataset, folders = prepared.dataset, folder_names(prepared.dataset.classes)
    names = defaultdict[tuple[str, str], Names](Names)  # by part and label
    return [
        {
            "file": f"{part}/{folders[label]}/{names[part, label].give(_stem(path), '.jpg')}",
            "part": part,
            "label": label,
            "source": str(path),
            "source_sha256": digest.hex(),
        }
        for path, label, part, digest in zip(
            dataset.paths,
            [dataset.classes[number] for number in dataset.labels],
            prepared.parts.tolist(),
            prepared.digests,
            strict=True,
        )
    ]


def _stem(path):
    return safe_name(path.stem.encode("utf-8", "replace").decode()) or "picture"


def _write(entry, folder, options):
    """Write one picture.  Returns the sha256 of its file, or the ImageError where it changed since it was looked at."""
    try:
        data = read(entry["source"])
        if hashlib.sha256(data).hexdigest() != entry["source_sha256"]:
            raise ImageError("unreadable", "it changes while it is read")
        pixels = to_input(decode(data), options.size, options.crop)
    except ImageError as error:
        return error
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **JPEG)
    path = folder / entry["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()
