"""Training again with every embedding stored, beside training from nothing, and what the report adds."""

import sys
from operator import sub
from pathlib import Path
from statistics import median

from benchmarks.common import RETRAIN, medians, paired_ratio, run, stages

STOPWATCH = Path(__file__).parent / "stopwatch.py"


def measure(bench):
    arguments = "train", bench.photos, "--no-report", "--json", "--model-dir"
    stored = bench.fresh() / "model"
    run(RETRAIN, *arguments, stored)
    runs = bench.alternate(
        {
            "from nothing": lambda: run(RETRAIN, *arguments, bench.fresh() / "model"),
            "all stored": lambda: run(RETRAIN, *arguments, stored),
            "all stored, with the report": lambda: run(RETRAIN, *arguments, stored, "--report"),
            "stopwatch": lambda: run(sys.executable, STOPWATCH, *arguments, stored),
        }
    )
    steps = stages("all stored", runs.pop("stopwatch"))
    nothing, again, reported = ([each.seconds for each in of_side] for of_side in runs.values())
    return {
        "rows": [{"what": name, **medians(of_side)} for name, of_side in runs.items()] + steps,
        "ratios": {
            "from nothing / all stored": paired_ratio(nothing, again),
            "seconds for the report": round(median(map(sub, reported, again)), 2),
        },
    }
