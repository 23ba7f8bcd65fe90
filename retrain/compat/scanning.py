"""label_dir.py and label_image_tojson.py: all pictures of a folder, copied under their labels or listed in one file."""

import filecmp
import json
import os
import shutil
import sys
import tempfile
from itertools import count
from pathlib import Path

import numpy as np

from retrain.compat.flags import graph_parser, read
from retrain.compat.homes import open_guesser
from retrain.compat.labelling import FAILED, print_scores
from retrain.errors import RetrainError
from retrain.recipes.names import safe_name

SCANNED, OUT = "/toScan", "/scanned"  # where the old container had them
RESULT = "res.json"


def label_dir(argv):
    """Copy each picture to `OUT/<label>--<digits of its score>.jpg`.  Returns the exit code."""
    return _scan("label_dir.py", "Copy the pictures of a folder under their labels.", argv, _Copying)


def label_image_tojson(argv):
    """Write `OUT/res.json`, {name without its suffix: {label: score}}.  Returns the exit code."""
    return _scan("label_image_tojson.py", "List what is on the pictures of a folder.", argv, _Listing)


def _scan(program, description, argv, kind):
    parser = graph_parser(program, description)
    parser.add_argument("folder", nargs="?", default=SCANNED, help="Folder of the pictures, which lie right there.")
    parser.add_argument("out", nargs="?", default=OUT, help="Folder of the result.")
    flags = read(parser, argv)
    folder, out = Path(flags.folder), Path(flags.out)
    if not folder.is_dir():
        raise RetrainError(f"there is no folder {folder}.", "Name the folder of the pictures.")
    out.mkdir(parents=True, exist_ok=True)
    if out.samefile(folder):
        raise RetrainError(f"{out} holds the pictures themselves.", "Name another folder for the result.")
    guesser, names = open_guesser(flags.graph, flags.labels)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    work, failed = kind(out, names), 0
    for guess in guesser.guess_files(files):
        if guess.error:
            failed += 1
            print(f"{guess.path}: {guess.error}", file=sys.stderr)
        else:
            print(guess.path)
            work.take(guess)
    work.finish()
    return FAILED if failed else 0


class _Copying:
    def __init__(self, out, names):
        self.out, self.names = out, names

    def take(self, guess):
        path = Path(guess.path)
        stem = f"{safe_name(self.names[guess.label])}--{str(np.float32(guess.confidence))[2:7]}"
        print(self._copy(path, stem, path.suffix.lower()))
        print_scores(guess, self.names, "guess")

    def _copy(self, path, stem, suffix):
        """Copy under that name, or with a number behind it where another file has it.  Returns the name."""
        for number in count(1):
            name = f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}"
            try:
                with open(self.out / name, "xb") as file, open(path, "rb") as source:
                    shutil.copyfileobj(source, file)
            except FileExistsError:
                if not filecmp.cmp(path, self.out / name, shallow=False):
                    continue
            return name
        raise AssertionError

    def finish(self):
        pass


class _Listing:
    def __init__(self, out, names):
        self.out, self.names, self.listed = out, names, {}

    def take(self, guess):
        path = Path(guess.path)
        key = path.stem if path.stem not in self.listed else path.name
        self.listed[key] = {self.names[label]: score for label, score in guess.scores.items()}

    def finish(self):
        with tempfile.TemporaryDirectory(prefix=".retrain-", dir=self.out) as scratch:
            new = Path(scratch) / RESULT
            new.write_text(json.dumps(self.listed))
            os.replace(new, self.out / RESULT)  # noqa: PTH105
