import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from image_sites import Gallery
from labelled import draw_labelled
from web import running

import retrain.fetch
from retrain.options import FetchOptions, SampleOptions, TrainOptions
from retrain.recipes.sampling import draw_sample
from retrain.recipes.training import train
from retrain.sources import SOURCES

# The same examples at every run, and none that fails for being slow.
settings.register_profile("retrain", deadline=None, derandomize=True, database=None)
settings.load_profile("retrain")

NOBODY = 65534
SAMPLE = SampleOptions(per_class=24, size=96)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test sees or touches the user's models, caches and keys."""
    monkeypatch.setenv("TF_FILES", str(tmp_path / "tf_files"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RETRAIN_OPENVERSE_KEY", raising=False)
    monkeypatch.setenv("RETRAIN_CONTACT", "tests@example.org")


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A drawn picture set: one folder a class.  Read only; copy it to change it."""
    folder = tmp_path_factory.mktemp("sample")
    draw_sample(folder, SAMPLE)
    return folder


@pytest.fixture(scope="session")
def trained(sample, tmp_path_factory):
    """A tf_files folder with the model and the store of a training on `sample`.  Read only."""
    folder = tmp_path_factory.mktemp("trained")
    train(sample, TrainOptions(model_dir=folder / "model"))
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Drawn pictures with several labels: train/ and test/ with a labels.csv each.  Read only."""
    folder = tmp_path_factory.mktemp("labelled")
    for seed, (part, count) in enumerate([("train", 240), ("test", 60)]):
        draw_labelled(folder / part, count, seed)
    return folder


@pytest.fixture(scope="session")
def trained_on_labels(labelled, tmp_path_factory):
    """A tf_files folder with the model of a training on `labelled`, and what `train` returned.  Read only."""
    folder = tmp_path_factory.mktemp("trained-on-labels")
    return folder, train(labelled, TrainOptions(model_dir=folder / "model"))


@pytest.fixture
def ordinary_user():
    """The test runs as a user who may not read everything.  Yields a folder of that user."""
    folder = Path(tempfile.mkdtemp())
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            path.chmod(0o700)
        shutil.rmtree(folder)


@pytest.fixture
def model_dir(trained, tmp_path):
    """A model folder of the test's own, at the default place."""
    shutil.copytree(trained, tmp_path / "tf_files")
    return tmp_path / "tf_files" / "model"


@pytest.fixture
def data(request, sample, tmp_path):
    """Two classes of six pictures, or as many as the test's module says, to be changed at will."""
    for name in ("fish", "tree"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in sorted((sample / name).iterdir())[: getattr(request.module, "PICTURES_A_CLASS", 6)]:
            shutil.copy(path, tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def open_gallery(monkeypatch):
    """open_gallery(folder): a site, in the place of Openverse, that has the pictures of class folders."""
    options = FetchOptions(connect_s=1, read_s=2, total_s=5, tries=2, pause_s=0.01, rates=((10_000, 1),))
    monkeypatch.setattr(retrain.fetch, "FetchOptions", lambda: options)
    monkeypatch.setitem(SOURCES, "openverse", SOURCES["openverse"]._replace(rates=()))
    with ExitStack() as stack:

        def open_gallery(folder):
            server = stack.enter_context(running(Gallery(folder)))
            monkeypatch.setenv("RETRAIN_OPENVERSE_URL", server.base_url)
            return server

        yield open_gallery


@pytest.fixture
def picture(sample):
    return sample / "tree" / "tree-000.jpg"


@pytest.fixture(scope="session")
def real_data():
    """The folder of real pictures that RETRAIN_TEST_DATA names."""
    folder = os.environ.get("RETRAIN_TEST_DATA")
    if not folder:
        pytest.skip("RETRAIN_TEST_DATA names no folder of real pictures")
    return Path(folder)
