"""Forget: delete all that is kept of somebody's face.  Photos are the user's, and stay.

Crops, rows of the embedding store, and every model that learned the person: its head was fitted to the face, and its
sense of the unknown holds embeddings of it.  A model without the person is made by training again.
"""

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from retrain.bottlenecks import digests_marked, erase
from retrain.dataset import legacy_label
from retrain.errors import RetrainError
from retrain.faces import MARK
from retrain.model import find_models, load_manifest, remove_model, remove_unfinished
from retrain.options import default_model_dir
from retrain.recipes.cropping import FOLDER, alone_with_faces, crops_in
from retrain.recipes.training import LABELS_FILE, store_path


def kept_faces(model_dir=None):
    """{label: number of its crops} of all that is kept beside a model."""
    folder = _home(model_dir) / FOLDER
    return {path.name: len(list(path.glob("*.jpg"))) for path in sorted(folder.glob("*")) if path.is_dir()}


def forget(label, model_dir=None):
    """Delete all that is kept of a label's faces beside a model, and the models of faces there that learned it.

    Rows of faces that no crop tells the owner of go each time: a training that was stopped, or failed, left them, or
    one that learned some of the photos only.  Returns {"label", "crops", "embeddings": how many were deleted, "models":
    folders deleted, "photos": files that the crops came from, which stay}.  What was stopped goes on when asked again.
    Raises RetrainError.
    """
    with alone_with_faces(_home(model_dir)):
        return _forget(label, model_dir)


def _forget(label, model_dir):
    kept, models = kept_faces(model_dir), models_of(label, model_dir)
    home, store = _home(model_dir), store_path(model_dir or default_model_dir())
    remove_unfinished(home)
    strays = digests_marked(store, MARK) - set(map(bytes.fromhex, crops_in(home / FOLDER)))
    rows, photos = erase(store, strays) if strays else (0, [])
    if not models and label not in kept:
        known = sorted({*kept, *(name for each in _models(home).values() for name in each)})
        near = get_close_matches(label, known, n=3, cutoff=0.4) or known or ["none"]
        raise RetrainError(f"no faces of {label!r} are kept in {home}.", f"There is: {', '.join(near)}.")
    photos = [path for path in photos if label in path.parts]
    for model in models:
        remove_model(model)
    _remove_labels_file(label, home)
    crops = 0
    if label in kept:  # and not what a stranger's model calls its label, such as ..
        crops, more, others = _forget_crops(home / FOLDER / label, store)
        rows, photos = rows + more, photos + others
    return {
        "label": label, "crops": crops, "embeddings": rows, "models": list(map(str, models)),
        "photos": sorted({str(path) for path in photos if path.exists()}),
    }  # fmt: skip


def _forget_crops(folder, store):
    """Delete a label's crops and the rows about their photos.  Returns how many of each, and the photos' paths."""
    crops = crops_in(folder)
    # The crops last: they tell what else is to be deleted.
    rows, photos = erase(store, map(bytes.fromhex, crops))
    try:
        for path in folder.glob("*"):  # torn ones, too
            path.unlink()
        with suppress(FileNotFoundError):
            folder.rmdir()
    except OSError as error:
        raise RetrainError(f"{folder} cannot be deleted: {error.strerror}.", "Delete it by hand.") from error
    return len(crops), rows, photos


def models_of(label, model_dir=None):
    """Folders beside a model, itself among them, of models of faces that learned a label."""
    return [folder for folder, classes in _models(_home(model_dir)).items() if label in classes]


def _home(model_dir):
    return store_path(model_dir or default_model_dir()).parent


def _models(home):
    """{folder: labels} of the models of faces in a folder."""
    manifests = {folder: load_manifest(folder) for folder in find_models(home)}
    return {folder: manifest["classes"] for folder, manifest in manifests.items() if manifest.get("faces")}


def _remove_labels_file(label, home):
    path = Path(home) / LABELS_FILE
    with suppress(OSError, ValueError):  # a file of somebody else's
        if legacy_label(label) in path.read_text().splitlines():
            path.unlink()
