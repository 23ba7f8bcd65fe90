"""The command line of retrain with a stopwatch on each step of training; adds `stages` to what `--json` prints."""

import json
import os
import time

from retrain import cli
from retrain.cli import shared
from retrain.recipes import preparing, training

STEPS = {
    "find": (preparing, ["find_labelled"]),
    "load backbone": (preparing, ["load_backbone"]),
    "embed": (preparing, ["embed_files"]),
    "find copies": (preparing, ["find_pairs", "group_by"]),
    "search C": (training, ["search_C", "fit_temperature"]),
    "fit": (training, ["fit_head"]),
    "save": (training, ["save_model"]),
}
stages = {"start-up, imports": time.time() - float(os.environ["STARTED"])}


def timed(function, stage):
    def wrapper(*arguments):
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            stages[stage] = stages.get(stage, 0.0) + time.perf_counter() - start

    return wrapper


def print_json(result):
    stages["rest"] = time.time() - float(os.environ["STARTED"]) - sum(stages.values())
    rounded = {stage: round(seconds, 3) for stage, seconds in stages.items()}
    print(json.dumps(result | {"stages": rounded}))


for stage, (module, names) in STEPS.items():
    for name in names:
        setattr(module, name, timed(getattr(module, name), stage))
shared.print_json = print_json
cli.main()
