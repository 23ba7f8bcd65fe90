"""Training from nothing, process start to saved model, stage by stage, beside a plain Keras script doing the same."""

import json
import sys
from pathlib import Path

from benchmarks.common import HAS_TENSORFLOW, RETRAIN, medians, paired_ratio, run, stages
from retrain.options import QUALITIES

SCRIPTS = Path(__file__).parent


def measure(bench):
    arguments = "train", bench.photos, "--quality", "fast", "--json", "--model-dir"
    sides = {
        "retrain": lambda: run(RETRAIN, *arguments, bench.fresh() / "model"),
        "stopwatch": lambda: run(sys.executable, SCRIPTS / "stopwatch.py", *arguments, bench.fresh() / "model"),
    }
    if HAS_TENSORFLOW:
        backbone = _save_keras_backbone(bench.folder / "backbone.keras")
        script = sys.executable, SCRIPTS / "keras_baseline.py", bench.photos, backbone
        sides["keras"] = lambda: run(*script, bench.fresh() / "model.keras")
    runs = bench.alternate(sides)
    steps = stages("retrain", runs.pop("stopwatch"))
    rows = [{"what": name, **medians(each), **_outcome(each[-1])} for name, each in runs.items()] + steps
    if not HAS_TENSORFLOW:
        return {"rows": rows, "ratios": {}}
    ratios = {
        f"keras / retrain, {unit}": paired_ratio(
            *([getattr(each, unit) for each in runs[side]] for side in ("keras", "retrain"))
        )
        for unit in ("seconds", "cpu_s")
    }
    return {"rows": rows + stages("keras", runs["keras"]), "ratios": ratios}


def _outcome(run):
    result = json.loads(run.output.splitlines()[-1])
    return {"images": result["images"], "accuracy": round(result["accuracy"], 3)}


def _save_keras_backbone(path):
    """The same weights as a Keras file, made before the clock starts."""
    code = (
        "import sys; from retrain.backbones import find_spec; from retrain.tf.convert import build_keras; "
        "build_keras(find_spec(sys.argv[1])).save(sys.argv[2])"
    )
    run(sys.executable, "-c", code, QUALITIES["fast"], path)
    return path
