import json
import shutil

import pytest


@pytest.fixture
def taught(sample, tmp_path, run):
    """Pictures of two classes in the data folder, so that nothing has to be crawled."""
    for name in ("fish", "tree"):
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / name)


def test_says_what_was_recognised_and_where_it_is(run, sample, taught):
    code, out, _ = run("learn", "-c", "tree,fish", "-p", sample, "-t", "0.5")
    lines = out.decode().splitlines()
    assert code == 0
    assert lines[0].startswith("Trained on 48 pictures: accuracy ")
    assert "recognised" in lines[1]
    assert [line.split()[1] for line in lines[2:4]] == ["fish", "tree"]
    assert "total images" in lines[6]
    assert lines[-2] == "Results: results/index.html and results.csv"
    code, out, err = run("learn", "-c", "fish,tree", "-p", sample, "-t", "0.5")
    assert code == 0
    assert out.decode().splitlines() == lines[1:]
    assert "nothing is trained" in err


def test_json_is_one_object_and_bad_files_show_in_the_exit_code(run, sample, taught, tmp_path):
    (tmp_path / "own").mkdir()
    shutil.copy(sample / "fish" / "fish-000.jpg", tmp_path / "own")
    (tmp_path / "own" / "words.jpg").write_text("words")
    code, out, err = run("learn", "-c", "tree,fish", "-p", tmp_path / "own", "--out", "found", "--json")
    result = json.loads(out)
    assert code == 3
    assert "words.jpg: not_an_image" in err
    assert result["images"] == 1
    assert result["results"] == "found"
    assert result["at_threshold"] is None


@pytest.mark.parametrize("arguments", [["-c", "cat,dog"], ["-p", "holiday"], ["-c", "cat,dog", "-p", ".", "-t", "2"],
    ["-c", "cat,dog", "-p", ""], ["-c", "cat,dog", "-p", ".", "--out", ""]])  # fmt: skip
def test_half_a_command_is_a_usage_error(run, arguments):
    code, _, err = run("learn", *arguments)
    assert code == 2
    assert "Usage: " in err
