"""A cold guess on one photo, process start to printed labels, beside nothing but the import of TensorFlow."""

import sys
from pathlib import Path

from benchmarks.common import HAS_TENSORFLOW, RETRAIN, medians, paired_ratio, run
from retrain.dataset import find_dataset

GUESS_SH = Path(__file__).parents[1] / "guess.sh"


def measure(bench):
    photo = find_dataset(bench.photos).paths[0]
    run(RETRAIN, "train", bench.photos, "--no-report", "--model-dir", bench.folder / "model")
    environment = {"TF_FILES": str(bench.folder), "RETRAIN_RUNTIME": "local"}
    sides = {
        "guess": lambda: run(RETRAIN, "guess", photo, **environment),
        "guess.sh": lambda: run(GUESS_SH, photo, **environment),
        "python -c pass": lambda: run(sys.executable, "-c", "pass"),
    }
    if HAS_TENSORFLOW:
        sides["import tensorflow"] = lambda: run(sys.executable, "-c", "import tensorflow")
    sides["guess.sh"]()  # sets itself up on first use
    runs = bench.alternate(sides)
    seconds = {name: [each.seconds for each in of_side] for name, of_side in runs.items()}
    return {
        "rows": [{"what": name, **medians(of_side)} for name, of_side in runs.items()],
        "ratios": {
            f"{name} / guess": paired_ratio(of_side, seconds["guess"])
            for name, of_side in seconds.items()
            if name != "guess"
        },
    }
