import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import retrain.cli
from retrain.cli import COMMANDS, main, plain
from retrain.model import load_model

RETRAIN = [sys.executable, "-c", "from retrain.cli import main; main()"]
TRAIN_KEYS = [
    "accuracy", "accuracy_interval", "test_images", "classes", "images", "skipped", "seconds", "quality", "backbone",
    "model_dir",
]  # fmt: skip
EVALUATE_KEYS = ["coverage", "accuracy_on_covered", "ece", "per_class", "confusion"]
GUESS_KEYS = ["path", "label", "confidence", "scores", "unknown", "candidates", "labels", "error"]


def is_one_clear_error(result, *words):
    """Exit code 1, nothing on stdout, an error line with these words and a hint line at the end."""
    code, out, err = result
    *before, error, hint = err.splitlines()
    assert code == 1
    assert out == b""
    assert error.startswith("Error: ")
    assert hint.startswith("Hint: ")
    assert all(word in error for word in words)
    assert not any(line.startswith(("Error", "Hint", "Traceback")) for line in before)
    return True


def test_train_prints_one_json_object(run, data):
    code, out, err = run("train", data, "--json")
    result = json.loads(out)
    assert code == 0
    assert "Traceback" not in err
    assert set(TRAIN_KEYS) <= set(result)
    assert (result["classes"], result["images"]) == (["fish", "tree"], 12)


def test_train_says_accuracy_with_its_interval(run, data):
    code, out, _ = run("train", data)
    assert code == 0
    assert re.search(rb"Accuracy on \d+ pictures kept back: [\d.]+ % \(95 % interval [\d.]+-[\d.]+ %\)", out)


def test_train_says_how_accuracy_was_measured(run, data):
    assert b"Accuracy by cross-validation: " in run("train", data, "--test-share", "0")[1]
    for path in data.glob("*/*[1-9].jpg"):
        path.unlink()
    assert b"Accuracy: not measured, too few pictures." in run("train", data)[1]


def test_train_like_a_model_takes_its_options_but_for_those_typed(run, data, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    run("train", data, "--seed", "5", "--max-per-class", "4", "--no-report", "--model-dir", first)
    code, out, err = run("train", data, "--like", first, "--seed", "0", "--model-dir", again)  # 0 is the default
    assert code == 0
    assert "option seed: 0 now, 5 then." in err
    assert b"byte for byte" not in out
    options = load_model(again).info["options"]
    assert (options["seed"], options["max_per_class"], options["report"]) == (0, 4, False)
    assert b"byte for byte" in run("train", data, "--like", again / "model.json")[1]


def test_train_with_bad_files_is_done_with_exit_code_3(run, data):
    (data / "fish" / "text.jpg").write_text("words")
    code, out, err = run("train", data, "--json")
    assert code == 3
    assert json.loads(out)["skipped"][0]["path"] == str(data / "fish" / "text.jpg")
    assert "1 file(s) skipped" in err


def test_evaluate_prints_one_json_object(run, data, model_dir):
    code, out, _ = run("evaluate", data, "--json")
    result = json.loads(out)
    assert code == 0
    assert set(EVALUATE_KEYS) | {"accuracy", "accuracy_interval", "test_images"} <= set(result)


def test_guess_prints_labels_best_first(run, picture, model_dir):
    code, out, err = run("guess", picture)
    lines = out.decode().splitlines()
    assert (code, err, len(lines)) == (0, "", 5)
    scores = [float(re.fullmatch(r"\w+ \(score = (\d\.\d{5})\)", line)[1]) for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_guess_prints_one_json_object_a_picture(run, sample, model_dir):
    code, out, _ = run("guess", "--json", sample / "sun", sample / "tree" / "tree-000.jpg")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(rows) == 25
    assert all(list(row) == GUESS_KEYS for row in rows)
    assert rows[-1]["path"] == str(sample / "tree" / "tree-000.jpg")


def test_guess_of_several_starts_each_block_with_its_path(run, picture, model_dir):
    _, out, _ = run("guess", picture, picture, "--top", "2")
    assert [line.decode() for line in out.splitlines()[::3]] == [str(picture)] * 2


@pytest.mark.parametrize("spelling", ["picture.jpg", "./picture.jpg", ".//picture.jpg"])
def test_guess_of_one_picture_does_not_repeat_its_path(run, picture, model_dir, spelling):
    shutil.copy(picture, "picture.jpg")
    _, out, _ = run("guess", spelling, "--top", "1")
    assert re.fullmatch(rb"\w+ \(score = [\d.]+\)\n", out)


def test_guess_reads_standard_input(run, picture, model_dir):
    _, expected, _ = run("guess", picture)
    code, out, _ = run("guess", "-", stdin=picture.read_bytes())
    assert (code, out) == (0, expected)


def test_empty_standard_input_is_an_empty_file(run, model_dir):
    code, _, err = run("guess", "-")
    assert (code, err.splitlines()[0]) == (3, "-: empty (the file holds no bytes)")


@pytest.mark.parametrize(
    "words", [["guess"], ["explain", "--out", "out"], ["sort", "sorted", "--dry-run"], ["evaluate"]], ids=" ".join
)
def test_no_name_of_a_file_gives_the_terminal_orders(run, sample, model_dir, tmp_path, words):
    shutil.copytree(sample / "sun", tmp_path / "data" / "sun")
    next((tmp_path / "data" / "sun").iterdir()).rename(tmp_path / "data" / "sun" / "red\x1b[31m.jpg")
    (tmp_path / "data" / "sun" / "broken\x1b[2J.jpg").write_text("words")
    command, *others = words
    code, out, err = run(command, tmp_path / "data", *others)
    assert code == 3
    assert b"\x1b" not in out + err.encode()
    assert b"broken?[2J.jpg" in out + err.encode()


def test_guess_below_threshold_is_unknown(run, picture, model_dir):
    _, out, _ = run("guess", picture, "--threshold", "1")
    assert out.startswith(b"unknown; nearest:\n")


def test_guess_names_the_candidates_of_an_ambiguous_picture(run, sample, model_dir):
    _, out, _ = run("guess", sample, "--coverage", "0.98", "--reject-rate", "0", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    several = [row for row in rows if len(row["candidates"]) > 1]
    assert several, "the drawn pictures are all too easy"
    _, out, _ = run("guess", several[0]["path"], "--coverage", "0.98", "--reject-rate", "0")
    assert out.decode().startswith(f"ambiguous: {', '.join(several[0]['candidates'])}\n")


@pytest.mark.parametrize("option", ["--coverage", "--reject-rate"])
@pytest.mark.parametrize("command", ["guess", "sort", "evaluate"])
def test_promise_that_cannot_be_kept_is_one_clear_error(run, sample, model_dir, tmp_path, command, option):
    share = "0.999" if option == "--coverage" else "0.001"
    paths = [sample, tmp_path / "sorted"] if command == "sort" else [sample]
    assert is_one_clear_error(run(command, *paths, option, share), "cannot be promised")


def test_train_measures_the_unknown_on_a_folder_of_it(run, sample, tmp_path):
    shutil.copytree(sample, tmp_path / "data")
    (tmp_path / "data" / "boat").rename(tmp_path / "data" / "_unknown")
    code, out, _ = run("train", tmp_path / "data", "--json")
    result = json.loads(out)
    assert code == 0
    assert "boat" not in result["classes"] and "_unknown" not in result["classes"]
    assert result["unknown"]["images"] == 24
    assert result["unknown"]["auroc"] > 0.6
    _, out, _ = run("train", tmp_path / "data")
    assert b"AUROC" in out and b"FPR95" in out


def test_train_says_where_pictures_are_too_few_to_tell_the_unknown(run, data):
    _, out, _ = run("train", data)
    assert b"Too few pictures to tell the unknown" in out


def test_train_ends_with_a_verdict(run, sample):
    _, out, _ = run("train", sample)
    lines = out.decode().splitlines()
    assert any(line.startswith("class ") and "recall" in line for line in lines)
    assert sum(line.startswith(("boat ", "fish ", "house ", "sun ", "tree ")) for line in lines) == 5
    assert any(line.startswith("- ") for line in lines)


def test_guess_of_a_bad_file_goes_on_and_exits_with_3(run, picture, model_dir, tmp_path):
    (tmp_path / "bad.jpg").write_text("words")
    code, out, err = run("guess", "--json", tmp_path / "bad.jpg", picture)
    bad, good = map(json.loads, out.splitlines())
    assert code == 3
    assert bad["error"].startswith("not_an_image")
    assert good["error"] is None
    assert err == "1 file(s) failed.\n"


NAMES = ["new\nline.jpg", os.fsdecode(b"caf\xe9.jpg"), "🌻 (1).jpg", "-x.jpg", "--json", "a\u2028b"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_come_out_as_they_went_in_and_as_one_line_of_text(run, picture, model_dir, tmp_path, name):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    shutil.copy(picture, path)
    _, text, _ = run("guess", path.parent, "--top", "1")
    assert text.startswith(os.fsencode(plain(str(path))) + b"\n")
    _, out, _ = run("guess", "--json", path.parent)
    assert len(out.splitlines()) == 1
    assert json.loads(out)["path"] == str(path)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_taken_as_arguments(run, picture, model_dir, name):
    shutil.copy(picture, name)
    code, out, _ = run("guess", "--json", "--", name)
    assert (code, json.loads(out)["path"]) == (0, name)


@pytest.mark.parametrize("name", ["new\nline", os.fsdecode(b"caf\xe9"), "🌻"])
def test_hostile_class_names_come_out_as_they_went_in(run, data, name):
    (data / "fish").rename(data / name)
    assert run("train", data)[0] == 0
    _, out, _ = run("guess", "--json", data / name / "fish-000.jpg")
    assert name in json.loads(out)["scores"]
    code, text, _ = run("evaluate", data)
    assert code == 0
    assert os.fsencode(name.replace("\n", "?")) in text  # a table stays one


# What a user meets: one clear line, the right exit code, nothing lost.


def test_no_model_yet_is_one_clear_error(run, picture):
    assert is_one_clear_error(run("guess", picture), "there is no model in")


@pytest.mark.parametrize("command", ["guess", "train", "evaluate"])
def test_path_that_does_not_exist_is_one_clear_error(run, model_dir, command):
    assert is_one_clear_error(run(command, "no such folder"), "there is no", "no such folder")


@pytest.mark.parametrize("command", ["guess", "train", "evaluate"])
def test_name_too_long_is_one_clear_error(run, model_dir, command):
    assert is_one_clear_error(run(command, "x" * 300))


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_empty_folder_is_one_clear_error(run, model_dir, tmp_path, command):
    (tmp_path / "empty").mkdir()
    assert is_one_clear_error(run(command, tmp_path / "empty"), "no pictures")


def test_hint_names_the_command_as_the_wrappers_call_it(run, picture, monkeypatch):
    monkeypatch.setenv("RETRAIN_PROGRAM", "my clone/.venv/bin/retrain")
    assert run("guess", picture)[2].endswith("Hint: 'my clone/.venv/bin/retrain' train DATA makes one.\n")


def test_guess_of_an_empty_folder_is_one_clear_error(run, model_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    assert is_one_clear_error(run("guess", tmp_path / "empty"), "no files")


def test_train_on_a_file_is_one_clear_error(run, picture):
    assert is_one_clear_error(run("train", picture), "is a file")


@pytest.mark.parametrize("place", ["/proc/tf_files", "/dev/null/tf_files"])
def test_unwritable_tf_files_is_one_clear_error(run, data, monkeypatch, place):
    monkeypatch.setenv("TF_FILES", place)
    assert is_one_clear_error(run("train", data), "cannot write to", place)


def test_tf_files_that_is_a_file_is_one_clear_error(run, data, tmp_path):
    (tmp_path / "tf_files").touch()
    assert is_one_clear_error(run("train", data), "cannot write to")
    assert (tmp_path / "tf_files").read_bytes() == b""


def test_newer_model_is_one_clear_error(run, picture, model_dir):
    manifest = json.loads((model_dir / "model.json").read_bytes())
    (model_dir / "model.json").write_text(json.dumps(manifest | {"format_version": 5}))
    assert is_one_clear_error(run("guess", picture), "has format 5")


@pytest.mark.parametrize("name", ["model.json", "head.npz", "trust.npz", "backbone.tflite"])
def test_half_written_model_is_one_clear_error(run, picture, model_dir, name):
    os.truncate(model_dir / name, 1000)
    assert is_one_clear_error(run("guess", picture), "is damaged")


def test_broken_store_is_set_aside_and_nothing_else_changes(run, data, model_dir):
    store = model_dir.parent / "bottlenecks.sqlite"
    store.write_bytes(b"broken" * 1000)
    code, _, err = run("train", data)
    assert code == 0
    assert err.count("is damaged") == 1
    (aside,) = model_dir.parent.glob("bottlenecks.sqlite.broken-*")
    assert aside.read_bytes() == b"broken" * 1000


def test_debug_shows_the_traceback(run, picture, capfdbinary, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["retrain", "--debug", "guess", str(picture)])
    with pytest.raises(retrain.cli.RetrainError):
        main()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["train"],
        ["guess"],
        ["train", "x", "--quality", "perfect"],
        ["train", "x", "--test-share", "2"],
        ["guess", "x", "--threshold", "2"],
        ["guess", "x", "--top", "0"],
        ["evaluate", "x", "--nothing"],
    ],
)
def test_wrong_use_exits_with_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, b"")
    assert "Usage: " in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_its_line_in_the_list(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Usage: retrain {command}".encode() in out
    assert f"  {command} ".encode() in run("--help")[1]


def test_version_is_the_package_s(run):
    assert run("--version")[1].decode().split()[-1] == retrain.__version__


def test_backbones_lists_size_precision_licence_source(run):
    _, out, _ = run("backbones", "--json")
    rows = json.loads(out)
    assert {"name", "image_size", "precision", "licence", "source", "file"} <= set(rows[0])
    assert [row["file"] for row in rows].count("shipped") == 3
    assert b"efficientnet-lite0" in run("backbones")[1]


# As a process of its own.


@pytest.mark.parametrize(
    ("number", "code", "last_words"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, None), (signal.SIGHUP, 129, None)],
)
def test_stopped_training_says_so_by_its_exit_code_and_leaves_the_old_model(
    tmp_path, model_dir, sample, number, code, last_words
):
    shutil.copytree(sample, tmp_path / "data")
    before = (model_dir / "model.json").read_bytes()
    program = f"""
import os
from retrain import bottlenecks
def decode(data):
    os.kill(os.getpid(), {int(number)})
    return real(data)
real, bottlenecks.decode = bottlenecks.decode, decode
from retrain.cli import main
main()
"""
    (tmp_path / "tf_files" / "bottlenecks.sqlite").unlink()
    command = [sys.executable, "-c", program, "train", "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == code
    assert not last_words or done.stderr.splitlines()[-1] == last_words
    assert "Traceback" not in done.stderr
    assert (model_dir / "model.json").read_bytes() == before
    assert load_model(model_dir)


def test_closed_pipe_ends_quietly(sample, model_dir):
    guessing = subprocess.Popen([*RETRAIN, "guess", sample], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    guessing.stdout.readline()
    guessing.stdout.close()
    err = guessing.stderr.read()
    guessing.wait(60)
    assert b"Traceback" not in err
    assert b"Exception" not in err


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_closed_streams_are_no_trouble(picture, model_dir, tmp_path, closed):
    redirections = " ".join(f"{number}>&-" for number in closed.split())
    before = {path: path.read_bytes() for path in model_dir.iterdir()}
    shell = ["sh", "-c", f'"$@" {redirections}', "sh"]
    assert subprocess.run([*shell, *RETRAIN, "guess", picture], check=False).returncode == 0
    assert subprocess.run([*shell, *RETRAIN, "guess", "gone"], check=False).returncode == 1
    assert {path: path.read_bytes() for path in model_dir.iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_disk_behind_stdout_is_one_clear_error(picture, model_dir):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*RETRAIN, "guess", picture], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert re.fullmatch(rb"Error: .*\nHint: .*\n", done.stderr)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 6 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=False).returncode:
        pytest.skip("this user cannot mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("free_kb", [0, 20, 200, 2000])
def test_full_disk_is_one_clear_error_and_leaves_the_old_model(run, data, model_dir, small_disk, monkeypatch, free_kb):
    folder = shutil.copytree(model_dir, small_disk / "tf_files" / "model")
    monkeypatch.setenv("TF_FILES", str(folder.parent))
    status = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - free_kb * 1024)))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, _, err = run("train", data, "--no-report")
    assert code == 1
    assert err.splitlines()[-2].startswith("Error: ")
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
    assert run("guess", data / "fish" / "fish-000.jpg")[0] == 0


@pytest.mark.parametrize(
    "words",
    [("embed", ".", "--out", "out"), ("guess", "."), ("sort", ".", "../out"), ("evaluate", ".")],
    ids=lambda words: words[0],
)
def test_address_without_its_engine_is_refused(run, words):
    code, _, err = run(*words, "--address", "auto")
    assert code == 1
    assert "Add --engine ray" in err


@pytest.mark.parametrize("words", [("-",), (".", "--explain", "out")])
def test_engine_that_would_not_be_used_is_refused(run, words):
    code, _, err = run("guess", *words, "--engine", "ray")
    assert code == 2
    assert "--engine is for files, and without --explain" in err
