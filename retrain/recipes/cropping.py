"""Crop: keep of each face that was learned what was cut out, to be looked at, and to know what is whose.

tf_files/faces/LABEL/SHA256.jpg    the face on a photo of that sha256, which is also its key in the embedding store
"""

import hashlib
import os
import re
from contextlib import nullcontext
from pathlib import Path

from retrain.dataset import UNKNOWN
from retrain.errors import writing_to
from retrain.faces import crop_main
from retrain.images import ImageError, decode, read
from retrain.parallel import ordered_map
from retrain.progress import track
from retrain.recipes.locking import locked

FOLDER = "faces"  # beside the model
CROP = re.compile(r"[0-9a-f]{64}\.jpg")
QUALITY = 90  # of JPEG
LOCK = "faces.lock"  # beside the model


def alone_with_faces(home):
    """Context that keeps learning and forgetting faces beside a model apart.  Raises RetrainError while one lasts."""
    return locked(home / LOCK, "train --faces or faces --forget", home) if home.is_dir() else nullcontext()


def keep_crops(dataset, digests, folder):
    """Write each picture's face into the folder of its label, where it is not kept yet.

    digests: sha256 of each of the dataset's pictures.  What was kept of a picture under another label moves.
    Raises RetrainError where nothing can be written.
    """
    kept = crops_in(folder)
    labels = [dataset.classes[label] for label in dataset.labels] + [UNKNOWN] * len(dataset.unknown)
    names = [digest.hex() for digest in digests] + [None] * len(dataset.unknown)
    missing = []
    with writing_to(folder, "Make room there."):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, label, name in zip([*dataset.paths, *dataset.unknown], labels, names, strict=True):
            (folder / label).mkdir(exist_ok=True)
            target = folder / label / f"{name}.jpg"
            if target.exists():  # be it that the same photo has another label, too
                continue
            if name in kept and kept[name].exists():
                kept[name].replace(target)
            else:
                missing.append((path, folder / label))
        for _ in track(ordered_map(lambda item: _keep(*item), missing), "Keeping faces", len(missing)):
            pass


def crops_in(folder):
    """{sha256 of a photo: the file of its face} of all that is kept in a folder, be it that of one label."""
    return {path.stem: path for path in Path(folder).rglob("*.jpg") if CROP.fullmatch(path.name)}


def _keep(path, folder):
    try:
        data = read(path)
        face = crop_main(decode(data))
    except ImageError:  # gone since it was embedded
        return
    target = folder / f"{hashlib.sha256(data).hexdigest()}.jpg"
    part = target.with_suffix(f".{os.getpid()}.part")
    face.save(part, "JPEG", quality=QUALITY)
    part.replace(target)
