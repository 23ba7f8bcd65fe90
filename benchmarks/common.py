"""Shared by the benchmarks: processes with a stopwatch, alternating runs, medians, a table and JSON."""

import compileall
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table

import retrain
from retrain.parallel import cores

PACKAGES = "retrain", "ai-edge-litert", "numpy", "pillow", "scikit-learn", "tensorflow"
RETRAIN = str(Path(sys.executable).with_name("retrain"))  # the command installed beside this Python
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


@dataclass(frozen=True)
class Bench:
    """What a benchmark is given.  photos: a folder a class; folder: empty, for its own files."""

    photos: Path
    folder: Path
    repeats: int  # runs of each side
    counts: tuple[int, ...] = (10_000, 100_000)  # pictures, where time is measured as they become more

    def alternate(self, sides):
        """Results of each side's calls in turn, so that whatever else the machine does meets all sides alike.

        sides: {name: function}.  Returns {name: [result of each repeat]}.
        """
        rounds = [{name: side() for name, side in sides.items()} for _ in range(self.repeats)]
        return {name: [results[name] for results in rounds] for name in sides}

    def fresh(self):
        """A new folder for one run: nothing is stored in it."""
        return Path(tempfile.mkdtemp(dir=self.folder))


@dataclass(frozen=True)
class Run:
    """One finished process.  seconds: from its start to its end; cpu_s: on all cores; peak_mb: resident memory."""

    seconds: float
    cpu_s: float
    peak_mb: float
    output: str


def run(*command, **environment):
    """Run a process to its end and measure it.  Raises click.ClickException where it fails."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "STARTED": str(time.time()), **environment}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)  # tells the memory of this one child
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0), errors.seek(0)
        if process.returncode:
            raise click.ClickException(f"{process.args} failed:\n{errors.read().decode(errors='replace')}")
        peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return Run(seconds, usage.ru_utime + usage.ru_stime, peak, output.read().decode(errors="replace"))


def seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def medians(runs):
    """Median seconds, CPU seconds and peak memory of several runs, as the columns of a row."""
    columns = {"seconds": 3, "cpu_s": 2, "peak_mb": 0}
    return {name: round(median(getattr(each, name) for each in runs), digits) for name, digits in columns.items()}


def stages(name, runs):
    """Rows with the median seconds of each stage that the runs of one side printed."""
    printed = [json.loads(each.output.splitlines()[-1])["stages"] for each in runs]
    return [
        {"what": f"{name}: {key}", "seconds": round(median(each[key] for each in printed), 3)} for key in printed[0]
    ]


def paired_ratio(others, ours):
    """Median over the rounds of how many times longer the other side took than ours."""
    return round(median(other / our for other, our in zip(others, ours, strict=True)), 2)


def measure(name, bench):
    """Result of the benchmark of that name."""
    return importlib.import_module(f"benchmarks.{name}").measure(bench)


def publish(name, result):
    """result: {"rows": [{column: value}], "ratios": {name: value}}.  Table to stderr, JSON to stdout."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
    columns = list(dict.fromkeys(column for row in result["rows"] for column in row))
    table = Table(title=name)
    for column in columns:
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in result["rows"]:
        table.add_row(*(f"{row.get(column, '')}" for column in columns))
    console.print(table)
    for ratio, value in result["ratios"].items():
        console.print(f"{ratio}: {value}")
    click.echo(json.dumps({"benchmark": name, "environment": environment(), **result}, ensure_ascii=False))


def environment():
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    load = round(os.getloadavg()[0], 1)
    return {"cores": cores(), "cpu": _cpu(), "system": platform.system(), "load": load, "versions": versions}


def compile_byte_code():
    """Byte code for all that either side may import; some environments never write it by themselves."""
    click.echo("Compiling byte code …", err=True)
    for folder in (Path(retrain.__file__).parent, Path(__file__).parent, sysconfig.get_path("purelib")):
        compileall.compile_dir(folder, quiet=2, workers=0)


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
