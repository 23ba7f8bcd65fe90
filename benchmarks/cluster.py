"""Embedding and sorting on a Ray cluster of one-core node processes on this machine, beside this machine without Ray.

What is lost on the way, a worker or the program itself, must not show in the rows.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from itertools import cycle, islice
from statistics import median

from pyarrow import parquet

from benchmarks.common import RETRAIN, run
from benchmarks.scale import draw_many
from retrain.dataset import walk
from retrain.parallel import cores
from retrain.recipes.sampling import SUBJECTS
from retrain.scale.cluster import SETTINGS

DRAWN, REAL = 20_000, 2_000  # pictures; the real ones are the photos given, as often as it takes
START = 128  # pictures of a run that shows what beginning costs


def measure(bench):
    run(RETRAIN, "train", bench.photos, "--no-report", "--model-dir", bench.folder / "model")
    data = draw_many(bench.folder / "data", DRAWN // len(SUBJECTS))
    _link(bench.photos, data / "real", REAL)
    _link(data / "real", bench.folder / "few", START)
    with _cluster() as (address, raylets):
        ray = "--engine", "ray", "--address", address
        rows = [*_embed(bench, data, ray), *_lose(bench, data, ray, raylets), *_sort(bench, data, ray)]
    seconds = {row["what"]: row["seconds"] for row in rows}
    ratios = {f"{what}: Ray / local": round(seconds[f"{what}, Ray"] / seconds[f"{what}, local"], 2)
              for what in ("embed", "sort")}  # fmt: skip
    steady = (
        seconds["embed, Ray"] - seconds[f"embed {START}, Ray"],
        seconds["embed, local"] - seconds[f"embed {START}, local"],
    )
    return {"rows": rows, "ratios": ratios | {"embed: Ray / local, the start apart": round(steady[0] / steady[1], 2)}}


def _link(source, folder, count):
    """So many of the files of a folder as further names, from the beginning where they do not suffice."""
    folder.mkdir()
    for number, path in enumerate(islice(cycle(list(walk(source))), count)):
        os.link(path, folder / f"{number:05d}{path.suffix}")


def _embed(bench, data, ray):
    yield from _compare(bench, f"embed {START}", bench.folder / "few", bench.fresh(), ray)
    yield from _compare(bench, "embed", data, bench.folder, ray)


def _compare(bench, what, source, folder, ray):
    outs = {name: folder / name for name in ("local", "Ray")}

    def seconds_of(name, *options):
        shutil.rmtree(outs[name], ignore_errors=True)
        return run(RETRAIN, "embed", source, "--out", outs[name], *options).seconds

    found = bench.alternate({"local": lambda: seconds_of("local"), "Ray": lambda: seconds_of("Ray", *ray)})
    for name, seconds in found.items():
        yield _row(f"{what}, {name}", median(seconds), _table(outs["local"]), _table(outs[name]))


def _lose(bench, data, ray, raylets):
    expected = _table(bench.folder / "local")
    for what, lose in (("a worker killed", lambda process: _kill_worker(raylets)), ("killed, and begun again", _kill)):
        out, start = bench.fresh(), time.perf_counter()
        command = RETRAIN, "embed", data, "--out", out, *ray
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(out.glob("part-*")):
            time.sleep(0.1)
        lose(process)
        if process.wait():
            run(*command)
        yield _row(f"embed, Ray, {what}", time.perf_counter() - start, expected, _table(out))


def _sort(bench, data, ray):
    found = {}
    for name, options in {"local": (), "Ray": ray}.items():
        out = bench.fresh() / "sorted"
        done = run(RETRAIN, "sort", data, out, "--model-dir", bench.folder / "model", "--mode", "link", *options)
        found[name] = sorted(path.relative_to(out) for path in walk(out))
        yield _row(f"sort, {name}", done.seconds, found["local"], found[name])


def _row(what, seconds, expected, found):
    count = len(found) if isinstance(found, list) else found.num_rows
    same = "yes" if expected == found else "no"
    return {"what": what, "seconds": round(seconds, 2), "images/s": round(count / seconds), "as local": same}


def _table(out):
    return parquet.read_table(out)


def _kill_worker(raylets):
    workers = subprocess.run(
        ["pgrep", "-P", ",".join(map(str, raylets)), "-f", "ray::MapWorker"], capture_output=True, text=True, check=True
    )
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)


def _kill(process):
    process.kill()


@contextmanager
def _cluster():
    """Address of a cluster with a node process a core, and the numbers of their raylets' processes."""
    os.environ.update(SETTINGS)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(max(1, cores() - 1)):
        cluster.add_node(num_cpus=1)
    try:
        yield cluster.address, [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    finally:
        cluster.shutdown()
