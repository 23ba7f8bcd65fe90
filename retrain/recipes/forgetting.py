"""Forget: delete all that is kept of somebody's face.  Photos are the user's, and stay.

Crops, rows of the embedding store, and every model that learned the person: its head was fitted to the face, and its
sense of the unknown holds embeddings of it.  A model without the person is made by training again.
"""

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from retrain.bottlenecks import erase
from retrain.dataset import legacy_label
from retrain.errors import RetrainError
from retrain.model import find_models, load_manifest, remove_model
from retrain.options import default_model_dir
from retrain.recipes.cropping import FOLDER, crops_in
from retrain.recipes.training import LABELS_FILE, store_path


def kept_faces(model_dir=None):
    """{label: number of its crops} of all that is kept beside a model."""
    folder = _home(model_dir) / FOLDER
    return {path.name: len(list(path.glob("*.jpg"))) for path in sorted(folder.glob("*")) if path.is_dir()}


def forget(label, model_dir=None):
    """Delete all that is kept of a label's faces beside a model, and the models of faces there that learned it.

    Returns {"label", "crops", "embeddings": how many were deleted, "models": folders deleted, "photos": files that the
    crops came from, which stay}.  What was stopped goes on when asked again.  Raises RetrainError.
    """
    home = _home(model_dir)
    folder, models = home / FOLDER / label, models_of(label, model_dir)
    if not models and label not in kept_faces(model_dir):
        known = sorted({*kept_faces(model_dir), *(name for each in _models(home).values() for name in each)})
        near = get_close_matches(label, known, n=3, cutoff=0.4) or known or ["none"]
        raise RetrainError(f"no faces of {label!r} are kept in {home}.", f"There is: {', '.join(near)}.")
    for model in models:
        remove_model(model)
    _remove_labels_file(label, home)
    crops = {digest: path for digest, path in crops_in(home / FOLDER).items() if path.parent == folder}
    # The crops last: they tell what else is to be deleted.
    rows, photos = erase(store_path(model_dir or default_model_dir()), list(map(bytes.fromhex, crops)))
    try:
        for path in folder.glob("*"):  # torn ones, too
            path.unlink()
        with suppress(FileNotFoundError):
            folder.rmdir()
    except OSError as error:
        raise RetrainError(f"{folder} cannot be deleted: {error.strerror}.", "Delete it by hand.") from error
    return {
        "label": label, "crops": len(crops), "embeddings": rows, "models": list(map(str, models)),
        "photos": sorted(str(path) for path in photos if path.exists()),
    }  # fmt: skip


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
    with suppress(OSError):
        if legacy_label(label) in path.read_text().splitlines():
            path.unlink()
