"""zip: a model folder packed to hand on, always to the same bytes."""

import tempfile
import zipfile
from pathlib import Path

from retrain.model import MANIFEST, files_of, load_manifest, load_model

FILE = "model.zip"
BEGINNING_OF_TIME = 1980, 1, 1, 0, 0, 0  # as far as zip knows

NEEDS = "retrain"
HOW = """\
It holds the model folder. Unpack it, and name the folder wherever retrain runs:

    unzip model.zip -d flowers
    retrain guess --model-dir flowers/model picture.jpg

Or in Python:
"""
CODE = """\
import sys
import tempfile
import zipfile

from retrain import Classifier

with tempfile.TemporaryDirectory() as folder:
    zipfile.ZipFile("model.zip").extractall(folder)
    (guess,) = Classifier.load(f"{folder}/model").guess([sys.argv[1]])
print(guess.label, guess.confidence)
"""


def write(subject, folder):
    home = subject.model_dir
    names = [MANIFEST, *sorted(files_of(load_manifest(home)))]  # not the report, which shows pictures and their paths
    with zipfile.ZipFile(folder / FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(f"model/{name}", BEGINNING_OF_TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, (home / name).read_bytes())
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(folder / FILE) as archive:
        archive.extractall(scratch)
        load_model(Path(scratch) / "model")  # which looks at all checksums
