import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

from retrain import EmbedOptions, EvaluateOptions, RetrainError, SortOptions, embed, evaluate, sort_dir
from retrain.backbones import load_backbone
from retrain.classifier import Classifier
from retrain.options import EngineOptions
from retrain.recipes import embedding
from retrain.scale import cluster as clustering
from retrain.scale import open_embedding, spread
from retrain.scale.places import Reader, find_files

pytestmark = pytest.mark.slow
parquet = pytest.importorskip("pyarrow.parquet")


def on(cluster, options=EngineOptions, **others):
    return options(engine="ray", address=cluster.address, **others)


def test_rows_are_those_of_one_machine(cluster, folder, tmp_path):
    near = embed(folder, tmp_path / "near")
    far = embed(folder, tmp_path / "far", on(cluster, EmbedOptions))
    assert parquet.read_table(tmp_path / "far").equals(parquet.read_table(tmp_path / "near"))
    assert far["skipped"] == near["skipped"]


def test_guesses_are_those_of_one_machine(cluster, folder, trained):
    classifier = Classifier.load(trained / "model")
    assert list(spread(classifier, on(cluster)).guess([folder])) == list(classifier.guess([folder]))


def test_pictures_are_sorted_as_by_one_machine(cluster, folder, trained, tmp_path):
    results = [
        sort_dir(folder, tmp_path / name, options)
        for name, options in [
            ("near", SortOptions(model_dir=trained / "model")),
            ("far", on(cluster, SortOptions, model_dir=trained / "model")),
        ]
    ]
    near, far = (
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")) for name in ("near", "far")
    )
    assert near == far
    assert results[0]["sorted"] == results[1]["sorted"]


def test_model_is_evaluated_as_by_one_machine(cluster, folder, trained):
    near, far = (
        evaluate(folder, options)
        for options in [
            EvaluateOptions(model_dir=trained / "model"),
            on(cluster, EvaluateOptions, model_dir=trained / "model"),
        ]
    )
    assert {**near, "seconds": 0} == {**far, "seconds": 0}


def test_each_file_is_one_row_though_a_worker_dies(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clustering, "BLOCK", 2)
    embed(folder, tmp_path / "near")
    raylets = [str(node.all_processes["raylet"][0].process.pid) for node in cluster.list_all_nodes()]
    command = ["pgrep", "-P", ",".join(raylets), "-f", "ray::MapWorker"]
    killed = []

    def kill():
        while not killed:
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            for number in found.stdout.split()[:1]:
                os.kill(int(number), signal.SIGKILL)
                killed.append(number)
            time.sleep(0.01)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    embed(folder, tmp_path / "far", on(cluster, EmbedOptions))
    assert killed
    assert parquet.read_table(tmp_path / "far").equals(parquet.read_table(tmp_path / "near"))


class Deadly(Reader):
    def __init__(self, kills):
        super().__init__()
        self.kills = kills

    def read(self, name):
        if self.kills(name):
            os._exit(1)
        return super().read(name)


def test_file_that_ends_each_worker_is_a_row_with_that_error(cluster, folder, monkeypatch):
    monkeypatch.setattr(clustering, "BLOCK", 4)
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # which the workers cannot import
    names, reader = find_files([folder])
    networks = [load_backbone("efficientnet-lite0")]
    near = list(open_embedding(EmbedOptions())(names, networks, reader))
    far = list(open_embedding(on(cluster))(names, networks, Deadly(lambda name: "sun-003" in name)))
    assert [row.name for row in far] == names
    told = [str(row.error) for row in far if "sun-003" in row.name]
    assert told == ["corrupt (it ended each process that decoded it)"]
    others = [(row, other) for row, other in zip(near, far, strict=True) if "sun-003" not in row.name]
    assert all(row.digest == other.digest and np.array_equal(row.parts, other.parts) for row, other in others)


def test_files_that_no_worker_lives_through_end_the_run(cluster, folder):
    open_embedding(on(cluster))  # connects
    begun, (names, reader) = clustering._count(), find_files([folder])
    prepare = partial(
        clustering._prepare, {"name": [os.fsencode(name) for name in names[:2]]}, specs=[], reader=reader,
        versions=clustering._versions(), begun=begun,
    )  # fmt: skip
    for _ in range(clustering.MAX_TRIES):
        assert len(prepare()["name"]) == 2
    with pytest.raises(RetrainError, match=r"no worker of the cluster lives through the files from .* to .*"):
        prepare()


def test_new_machine_goes_on_for_one_that_is_lost(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clustering, "BLOCK", 2)
    embed(folder, tmp_path / "near")
    lost, seen = cluster.add_node(num_cpus=1), []

    def lose_it(names, backbones, reader):
        for row in open_embedding(on(cluster))(names, backbones, reader):
            if not seen:
                cluster.remove_node(lost, allow_graceful=False)
            seen.append(row)
            yield row

    monkeypatch.setattr(embedding, "open_embedding", lambda _: lose_it)
    embed(folder, tmp_path / "far")
    assert parquet.read_table(tmp_path / "far").equals(parquet.read_table(tmp_path / "near"))


def test_machines_of_another_version_are_refused(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clustering, "_versions", lambda: ("9.9", 0))
    with pytest.raises(RetrainError, match=r"a machine of the cluster has retrain .*, this one 9\.9"):
        embed(folder, tmp_path / "out", on(cluster, EmbedOptions))


def test_folder_that_only_this_machine_sees_is_named(cluster, tmp_path, sample):
    link = tmp_path / "in" / "a.png"
    link.parent.mkdir()
    with open(next((sample / "sun").iterdir()), "rb") as file:
        number = os.dup2(file.fileno(), 1000)
    link.symlink_to(f"/proc/self/fd/{number}")  # a name that only this process can follow
    try:
        with pytest.raises(RetrainError, match=r"a machine of the cluster cannot read .*a\.png: unreadable"):
            embed(link.parent, tmp_path / "out", on(cluster, EmbedOptions))
    finally:
        os.close(number)
    assert len(embed(link.parent, tmp_path / "out", on(cluster, EmbedOptions))["skipped"]) == 1  # by nobody any more


def test_networks_for_a_gpu_ask_for_one(cluster, monkeypatch):
    import ray

    int8 = load_backbone("efficientnet-lite0")
    assert clustering._device([int8]) == {"num_cpus": 1}
    monkeypatch.setattr(clustering, "computes_on_gpu", lambda spec: True)
    assert clustering._device([int8]) == {"num_cpus": 1}
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 4.0})
    assert clustering._device([int8]) == {"num_gpus": 1}


def test_fault_of_a_cluster_is_told_in_a_line():
    exceptions = pytest.importorskip("ray.exceptions")
    from ray.data.exceptions import SystemException

    gone = exceptions.RayError("it is gone.\nAsk Ray.")
    gone.__cause__ = SystemException()
    wrong = exceptions.RayTaskError("f", "Traceback …", ValueError("no such thing\nAsk Ray."))
    for error, told in [(gone, "RayError: it is gone"), (wrong, "ValueError: no such thing")]:
        with pytest.raises(RetrainError, match=rf"cluster failed: {told}\.$"), clustering._plain_errors():
            raise error


def test_missing_ray_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RetrainError, match="needs Ray") as error:
        embed(folder, tmp_path / "out", EmbedOptions(engine="ray"))
    assert "retrain[scale]" in error.value.hint


def test_program_ends_as_ever_when_asked_to(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)))
    before = signal.signal(signal.SIGTERM, ends := lambda *_: None)
    try:
        open_embedding(EngineOptions(engine="ray"))
        assert signal.getsignal(signal.SIGTERM) is ends
    finally:
        signal.signal(signal.SIGTERM, before)


def test_cluster_that_does_not_answer_is_named(folder, tmp_path, monkeypatch):
    import ray

    def fails(*_, **__):
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(RetrainError, match=r"no Ray cluster answers at 10\.9\.8\.7:6379"):
        embed(folder, tmp_path / "out", EmbedOptions(engine="ray", address="10.9.8.7:6379"))
