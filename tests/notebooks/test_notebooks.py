"""The notebooks run from top to bottom, and do what they say."""

import re
import shutil
import sys
import types
from importlib.util import find_spec as find_module
from pathlib import Path

import pytest
from marks import NEEDS_TENSORFLOW

from retrain import Classifier, GraphClassifier, draw_sample
from retrain.options import SampleOptions

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.skipif(
    not find_module("nbclient") or not find_module("ipykernel"), reason="nbclient or ipykernel is not installed"
)
needs_tensorflow = NEEDS_TENSORFLOW


def read(name):
    import nbformat

    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


def run(name, folder):
    """The notebook with its outputs, run in a folder."""
    from nbclient import NotebookClient

    notebook = read(name)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def text_of(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def plots_in(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def sample(folder, **options):
    draw_sample(folder / "TensorFlow_model" / "training_data", SampleOptions(size=96, **options))


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """What a kernel inherits: no folder of the user's, and retrain from here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def trained(environment, tmp_path_factory):
    """The folder in which train.ipynb ran on drawn pictures, the first of them damaged, and the notebook."""
    folder = tmp_path_factory.mktemp("notebooks")
    sample(folder, per_class=24)
    damaged = folder / "TensorFlow_model" / "training_data" / "boat" / "0.jpg"
    damaged.write_text("no picture")
    notebook = run("train.ipynb", folder)
    damaged.unlink()
    return folder, notebook


class TestWithTensorFlow:
    pytestmark = needs_tensorflow

    def test_training_makes_the_files_of_the_tree(self, trained):
        folder, notebook = trained
        root = folder / "TensorFlow_model"
        classes = sorted(path.name for path in (root / "training_data").iterdir())
        assert Classifier.load(root / "tmp" / "retrain_tmp" / "model").labels == classes
        assert (root / "cpu" / "output_labels.txt").read_text().split() == classes
        assert GraphClassifier.load(root / "cpu" / "output_graph.pb").labels == classes
        assert "120 pictures learned" in text_of(notebook)
        assert "fish: 24 pictures" in text_of(notebook)

    def test_training_draws_the_matrix_the_curve_and_a_heat_map_a_class(self, trained):
        _, notebook = trained
        assert len(plots_in(notebook)) == 2 + 5

    def test_training_that_finds_no_pictures_draws_some(self, environment, tmp_path):
        notebook = run("train.ipynb", tmp_path)
        assert "200 pictures learned" in text_of(notebook)
        assert float(re.search(r"Accuracy: ([\d.]+)%", text_of(notebook))[1]) > 75

    def test_prediction_names_the_pictures_in_the_list(self, trained):
        folder, _ = trained
        notebook = run("predict.ipynb", folder)
        classes = sorted(path.name for path in (folder / "TensorFlow_model" / "training_data").iterdir())
        assert re.findall(r"^(\d): (\w+) \(score", text_of(notebook), re.MULTILINE) == [
            (str(number), label) for number, label in enumerate(classes, 1)
        ]
        assert len(plots_in(notebook)) == 5 + 5

    def test_prediction_needs_no_more_than_the_graph_and_its_labels(self, trained, tmp_path):
        source, root = trained[0] / "TensorFlow_model", tmp_path / "TensorFlow_model"
        shutil.copytree(source / "cpu", root / "cpu")
        for folder in (source / "training_data").iterdir():
            (root / "training_data" / folder.name).mkdir(parents=True)
            shutil.copy(min(folder.iterdir()), root / "training_data" / folder.name)
        notebook = run("predict.ipynb", tmp_path)
        assert re.findall(r"^\d: (\w+) \(score", text_of(notebook), re.MULTILINE) == sorted(
            path.name for path in (source / "training_data").iterdir()
        )
        assert len(plots_in(notebook)) == 5


def test_prediction_without_a_model_says_so(environment, tmp_path):
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="there is no model in"):
        run("predict.ipynb", tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_are_short(path):
    assert max(len(cell.source.splitlines()) for cell in read(path.name).cells) <= 20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_on_colab_the_drive_is_mounted_and_used(path, monkeypatch):
    mounted = []
    drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(drive=drive))
    (cell,) = [cell.source for cell in read(path.name).cells if "drive.mount" in cell.source]
    names = {"Path": Path}
    exec(cell, names)  # noqa: S102
    assert mounted == ["/content/drive"]
    assert names["DATA"] == Path("/content/drive/MyDrive/TensorFlow_model/training_data")
    assert names["GRAPH"] == Path("/content/drive/MyDrive/TensorFlow_model/cpu/output_graph.pb")


def test_both_notebooks_have_the_same_first_cells():
    first, second = ([cell.source for cell in read(path.name).cells if cell.cell_type == "code"] for path in NOTEBOOKS)
    assert first[:2] == second[:2]
