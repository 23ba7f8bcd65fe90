import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from test_cli import is_one_clear_error

PICTURES_A_CLASS = 12  # of the fixture `data`


def test_export_prints_a_table(run, data):
    code, out, _ = run("export", "dataset", "--out", "out", "--data", data, "--size", "64")
    lines = out.decode().splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == ["testing", "training", "validation", "Exported:"]
    assert sum(int(line.split()[1]) for line in lines[:3]) == 24


def test_export_json_is_one_object(run, data, tmp_path):
    code, out, _ = run("export", "dataset", "--out", "out", "--data", data, "--json")
    result = json.loads(out)
    (told,) = result["exports"]
    assert (code, result["skipped"], told["format"]) == (0, [], "dataset")
    assert {"out", "classes", "images", "parts", "left_out", "seconds"} <= told.keys()
    assert told["out"] == str(tmp_path / "here" / "out" / "dataset")


def test_export_takes_the_data_of_tf_files(run, data, tmp_path):
    (tmp_path / "tf_files").mkdir()
    data.rename(tmp_path / "tf_files" / "data")
    assert run("export", "dataset", "--out", "out")[0] == 0


def test_export_without_data_is_one_clear_error(run):
    assert is_one_clear_error(run("export", "dataset", "--out", "out"), "there is no folder")


def test_export_goes_to_tf_files(run, data, tmp_path):
    assert run("export", "dataset", "--data", data)[0] == 0
    assert (tmp_path / "tf_files" / "export" / "dataset" / "manifest.jsonl").exists()


def test_export_into_something_is_one_clear_error(run, data, tmp_path):
    (tmp_path / "out" / "dataset").mkdir(parents=True)
    (tmp_path / "out" / "dataset" / "mine.txt").write_text("mine")
    arguments = ["export", "dataset", "--out", tmp_path / "out", "--data", data]
    assert is_one_clear_error(run(*arguments), "not an empty folder")


def test_export_with_bad_files_is_done_with_exit_code_3(run, data):
    (data / "fish" / "text.jpg").write_text("words")
    code, _, err = run("export", "dataset", "--out", "out", "--data", data)
    assert code == 3
    assert "text.jpg: not_an_image" in err


@pytest.mark.parametrize("arguments", [["models"], [], ["dataset", "out"], ["dataset", "--size", "4"]])
def test_export_used_wrongly_is_usage(run, arguments):
    assert run("export", *arguments)[0] == 2


@pytest.mark.parametrize(("size", "images"), [("96", 24), ("96x96", 24), ("97x1", 0), ("1x97", 0)])
def test_min_size_is_one_number_or_two(run, data, size, images):
    code, out, err = run("train", data, "--no-report", "--json", "--min-size", size)
    if images:
        assert (code, json.loads(out)["images"]) == (0, images)
    else:
        assert is_one_clear_error((code, out, err), "24 too_small")


@pytest.mark.parametrize("size", ["x", "96x", "-1", "96 96", "1e3", "96x96x96", ""])
def test_min_size_that_is_none_is_usage(run, data, size):
    code, _, err = run("train", data, "--min-size", size)
    assert code == 2
    assert "such as 224x224" in err


def test_train_says_how_classes_were_weighted_or_cut(run, data):
    for path in sorted((data / "fish").iterdir())[6:]:
        path.unlink()
    out = run("train", data, "--no-report", "--test-share", "0")[1].decode()
    assert "Classes weighted by their size: a picture of tree counts 0.75, one of fish 1.50" in out
    out = run("train", data, "--no-report", "--balance", "cut")[1].decode()
    assert "Pictures left out, to have fewer a class: 6" in out
    assert "weighted" not in out


def test_interrupted_export_leaves_no_half_written_file(data, tmp_path):
    for path in sorted(data.glob("*/*")):
        for number in range(60):
            shutil.copy(path, path.with_stem(f"{path.stem}-{number}"))
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from retrain.cli import main; main()"]
    export = subprocess.Popen([*command, "export", "dataset", "--out", out, "--data", data], stderr=subprocess.DEVNULL)
    while export.poll() is None and not list(out.glob("dataset/.retrain-export-*/*/*/*.jpg")):
        time.sleep(0.01)
    export.send_signal(signal.SIGINT)
    assert export.wait(60) == 130
    assert os.listdir(out / "dataset") == []


def test_models_are_exported_without_tensorflow(run, model_dir, sample, tmp_path):
    code, out, _ = run("export", "tflite-int8", "zip", "--json")
    first, second = json.loads(out)["exports"]
    assert code == 0
    assert (first["format"], second["format"]) == ("tflite-int8", "zip")
    assert first["checked_on"] == "16 of its own pictures"
    assert {each["agreed"] for each in first["differences"].values()} == {16}
    files = {path.name for path in (tmp_path / "tf_files" / "export" / "tflite-int8").iterdir()}
    assert files == {"README.md", "labels.txt", "metadata.json", "model.tflite", "run.py"}


def test_exports_are_told_in_lines(run, model_dir):
    lines = run("export", "tflite-int8", "zip", "--out", "out")[1].decode().splitlines()
    assert [line.rpartition(",")[0] for line in lines if line.startswith("Exported")] == [
        "Exported: out/tflite-int8", "Exported: out/zip",
    ]  # fmt: skip
    assert sum("same label 16 of 16" in line for line in lines) == 2


def test_export_without_a_model_is_one_clear_error(run):
    assert is_one_clear_error(run("export", "zip"), "there is no model in")


def test_foreign_folder_is_never_overwritten(run, model_dir, tmp_path):
    mine = tmp_path / "out" / "zip" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    result = run("export", "tflite-int8", "zip", "--out", tmp_path / "out")
    assert is_one_clear_error(result, "not as an export has left it")
    assert os.listdir(tmp_path / "out") == ["zip"]
    assert os.listdir(mine.parent) == ["mine.txt"]


def test_export_takes_the_place_of_the_one_before(run, model_dir, tmp_path):
    for _ in range(2):
        assert run("export", "zip", "--out", tmp_path / "out")[0] == 0
    assert os.listdir(tmp_path / "out") == ["zip"]
    (tmp_path / "out" / "zip" / "labels.txt").write_text("changed by hand")
    assert is_one_clear_error(run("export", "zip", "--out", tmp_path / "out"), "not as an export has left it")


def test_export_into_a_file_is_one_clear_error(run, model_dir, tmp_path):
    (tmp_path / "out").write_text("a file")
    assert is_one_clear_error(run("export", "zip", "--out", tmp_path / "out"), "cannot write to")


def test_each_line_of_figures_stands_below_its_format(run, model_dir):
    _, out, _ = run("export", "tflite-int8", "zip")
    first, second, third, *_ = out.decode().splitlines()
    assert first == "tflite-int8: the model's own head."
    assert second.startswith("  fed the same pixels") and third.startswith("  fed pixels cut out as ours")
