"""Every old program as it is called: a process, from the project's folder, from another one, and by its whole path."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from marks import NEEDS_TENSORFLOW

from retrain.compat import PROGRAMS

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "compat"
SCORE = r"\w+ \(score = \d\.\d{5}\)"
needs_tensorflow = NEEDS_TENSORFLOW


def start(program, *arguments, cwd):
    """Run it as its users do, with nothing on the path but what is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, program, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_each_program_has_its_file():
    assert {path.name for path in SCRIPTS.glob("*.py")} == set(PROGRAMS)


@pytest.mark.parametrize(
    ("program", "folder"),
    [
        ("scripts/compat/classify.py", ROOT),
        ("classify.py", SCRIPTS),
        (os.path.relpath(SCRIPTS / "classify.py", ROOT / "tests"), ROOT / "tests"),
        (SCRIPTS / "classify.py", Path("/")),
    ],
    ids=["project", "its own folder", "another folder", "whole path"],
)
def test_program_runs_from_anywhere(program, folder, model_dir, picture):
    done = start(program, picture, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"({SCORE}\n){{5}}", done.stdout)


@pytest.fixture
def arguments(sample, picture, model_dir, tmp_path):
    """Arguments of each program that does without TensorFlow, and what it then prints."""
    shutil.copytree(sample / "sun", tmp_path / "scan")
    (tmp_path / "tf_files" / "data").mkdir()
    for name in ("fish", "tree"):
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / name)
    trees = sorted((sample / "tree").iterdir())[:3]
    return {
        "label_image.py": ([picture], SCORE),
        "classify.py": ([picture], SCORE),
        "predict.py": ([tmp_path / "scan"], SCORE),
        "classify_image.py": (["--image-file", picture], r".+ \(score = \d\.\d{5}\)"),
        "label_dir.py": ([tmp_path / "scan", tmp_path / "scanned"], r"sun--\d+\.jpg"),
        "label_image_tojson.py": ([tmp_path / "scan", tmp_path / "scanned"], r".+\.jpg"),
        "classifier_training.py": (
            ["-c", "fish,tree", "-p", sample / "tree"],
            r"24 images, \d+ over .+",
        ),
        "make_image_classifier.py": (
            ["--image_dir", tmp_path / "tf_files" / "data", "--tfhub_module=efficientnet-lite0"],
            r"Accuracy = \d+\.\d% \(N=\d+\)",
        ),
        "Image-Recognition-ReCaptcha-Fooling.py": (["tree", *trees], r"The one that is not a tree is: .+\.jpg"),
    }


@pytest.mark.parametrize("program", sorted(set(PROGRAMS) - {"retrain.py", "classify.py"}))
def test_program_runs(program, arguments, tmp_path):
    given, line = arguments[program]
    done = start(SCRIPTS / program, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(re.fullmatch(line, printed) for printed in done.stdout.splitlines()), done.stdout


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_bad_input_is_a_clear_line_and_no_traceback(program, sample, tmp_path):
    bad = {
        "retrain.py": ["--image_dir", tmp_path / "none"],
        "make_image_classifier.py": ["--image_dir", tmp_path / "none"],
        "label_image.py": ["--graph", tmp_path / "none.pb", "--labels", tmp_path / "none.txt", "--image", tmp_path],
        "classifier_training.py": ["-c", "cat,dog", "-p", tmp_path / "none"],
        "classify_image.py": ["--image_file", tmp_path / "none.jpg"],
        "Image-Recognition-ReCaptcha-Fooling.py": ["tree", tmp_path / "none.jpg"],
    }
    done = start(SCRIPTS / program, *bad.get(program, [tmp_path / "none.jpg"]), cwd=tmp_path)
    assert done.returncode == 1
    assert not done.stdout
    assert re.search(r"^Error: .+\nHint: .+\n$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_a_pipe_that_closes_early_is_no_error(model_dir, sample, tmp_path):
    command = f"{sys.executable} {SCRIPTS / 'predict.py'} {sample / 'sun'} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{sample / 'sun' / 'sun-000.jpg'}\n"
    assert not done.stderr


def test_program_runs_by_a_link_and_as_a_module(model_dir, picture, tmp_path):
    """As `python -m scripts.label_image`, which the poets' course says."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "classify.py").symlink_to(SCRIPTS / "classify.py")
    (tmp_path / "my_classify.py").symlink_to(SCRIPTS / "classify.py")
    for called in (["-m", "scripts.classify"], ["scripts/classify.py"], ["my_classify.py"]):
        done = subprocess.run([sys.executable, *called, picture], cwd=tmp_path, capture_output=True, text=True)
        assert re.fullmatch(rf"({SCORE}\n){{5}}", done.stdout), done.stderr


def test_module_runs_a_program_by_its_name(model_dir, picture):
    command = [sys.executable, "-m", "retrain.compat"]
    done = subprocess.run([*command, "classify.py", picture], capture_output=True, text=True)
    assert re.fullmatch(rf"({SCORE}\n){{5}}", done.stdout)
    done = subprocess.run([*command, "shell.py"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "retrain.py,label_image.py" in done.stderr


@pytest.fixture(scope="module")
def retrained(sample, tmp_path_factory):
    """A folder with what retrain.py wrote, called as ever from the folder above the pictures, and its process."""
    folder = tmp_path_factory.mktemp("retrained")
    flags = ["--bottleneck_dir", "--output_graph", "--output_labels", "--summaries_dir", "--checkpoint_path"]
    places = [f"{flag}={folder / flag.strip('-')}" for flag in flags]
    command = [f"--image_dir={sample.name}", "--how_many_training_steps", "300", "--learning_rate", "0.02", *places]
    return folder, start(SCRIPTS / "retrain.py", *command, cwd=sample.parent)


class TestWithTensorFlow:
    pytestmark = needs_tensorflow

    def test_retrain_teaches(self, retrained, sample):
        folder, done = retrained
        assert done.returncode == 0, done.stderr
        assert "Step 299: Train accuracy" in done.stderr
        assert not done.stdout
        assert (folder / "output_labels").read_text().split() == sorted(path.name for path in sample.iterdir())
        assert (folder / "model" / "model.json").exists()

    def test_label_image_reads_its_graph(self, retrained, picture, tmp_path):
        folder, _ = retrained
        graph = ["--graph", folder / "output_graph", "--labels", folder / "output_labels", "--image", picture]
        layers = ["--input_layer=Placeholder", "--output_layer=final_result"]
        done = start(SCRIPTS / "label_image.py", *graph, *layers, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"tree 0\.\d+\n(\w+ \S+\n){4}", done.stdout)
