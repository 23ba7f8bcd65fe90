import os

import pytest
from PIL import Image

from retrain.scale.cluster import SETTINGS


@pytest.fixture(scope="session")
def folder(sample, tmp_path_factory):
    """Pictures in folders among files that are none, one of a name that is not UTF-8.  Read only."""
    folder = tmp_path_factory.mktemp("many")
    for name in ("sun", "tree"):
        (folder / name).mkdir()
        for path in sorted((sample / name).iterdir()):
            os.link(path, folder / name / path.name)
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("no picture")
    Image.new("RGB", (40, 30), "red").save(folder / os.fsdecode(b"caf\xe9.png"))
    return folder


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two node processes on this machine."""
    pytest.importorskip("ray")
    patch = pytest.MonkeyPatch()
    for name, value in SETTINGS.items():
        patch.setenv(name, value)
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    patch.undo()
