import json
import os
import subprocess
import sys
import time
from pathlib import Path

STOPWATCH = Path(__file__).parents[1] / "benchmarks" / "stopwatch.py"


def test_stopwatch_times_every_stage_of_training(data, tmp_path):
    command = [sys.executable, STOPWATCH, "train", data, "--json", "--model-dir", tmp_path / "model"]
    environment = {**os.environ, "STARTED": str(time.time())}
    output = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    stages = json.loads(output)["stages"]
    assert {"start-up, imports", "find", "load backbone", "embed", "search C", "fit", "save"} <= set(stages)
    assert all(seconds >= 0 for seconds in stages.values())
