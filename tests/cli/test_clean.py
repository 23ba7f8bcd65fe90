import json
import shlex
import shutil

import pytest
from PIL import Image
from test_cli import is_one_clear_error


@pytest.fixture
def spoilt(data):
    Image.effect_noise((10, 10), 90).save(data / "tree" / "tiny.png")
    shutil.copy(data / "tree" / "tree-000.jpg", data / "tree" / "copy of it.jpg")
    Image.effect_noise((300, 30), 90).save(data / "fish" / "long\nline.png")
    return data


def test_clean_prints_table_and_how_to_go_on(run, spoilt):
    code, out, _ = run("clean", spoilt, "--checks", "identical,tiny,dark,odd_shape")
    lines = out.decode().splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines if not line.startswith(" ")][:4] == [
        ["identical", "1"],
        ["tiny", "1"],
        ["dark", "0"],
        ["odd_shape", "1"],
    ]
    assert "tree/copy of it.jpg, tree/tree-000.jpg: the same bytes 2 times" in out.decode()
    assert "fish/long?line.png: 300 x 30 px, 10.0 to 1 (limit 4)" in out.decode()
    assert lines[-1].endswith(f"clean {shlex.quote(str(spoilt))} --checks identical,tiny,dark,odd_shape --apply")
    assert (spoilt / "tree" / "tiny.png").exists()


def test_clean_json_is_one_object(run, spoilt):
    code, out, _ = run("clean", spoilt, "--json")
    result = json.loads(out)
    assert code == 0
    assert {"findings", "counts"} <= result.keys()
    assert {"check", "paths", "score", "reason", "action"} <= result["findings"][0].keys()
    assert result["counts"]["identical"] == result["counts"]["tiny"] == 1


def test_clean_apply_and_undo(run, spoilt):
    code, out, _ = run("clean", spoilt, "--apply")
    assert code == 0
    assert b"file(s) moved to" in out
    assert not (spoilt / "tree" / "tiny.png").exists()
    assert (spoilt / "tree" / "tree-000.jpg").exists()
    code, out, _ = run("clean", spoilt, "--undo")
    assert code == 0
    assert b"file(s) put back." in out
    assert (spoilt / "tree" / "tiny.png").exists()
    assert is_one_clear_error(run("clean", spoilt, "--undo"), "nothing from", "in quarantine")


def test_clean_exits_with_3_where_it_left_files(run, data, tmp_path):
    Image.effect_noise((10, 10), 90).save(tmp_path / "elsewhere.png")
    (data / "tree" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    code, out, err = run("clean", data, "--checks", "tiny", "--apply")
    assert code == 3
    assert b"link.png: a symbolic link leads to it" in out
    assert "1 file(s) left where they are." in err
    run("clean", data, "--checks", "odd_shape", "--apply")


@pytest.mark.parametrize("options", [["--apply"], ["--checks", "tiny"], ["--html", "page.html"]])
def test_clean_undo_takes_nothing_else(run, data, options):
    assert run("clean", data, "--undo", *options)[0] == 2


def test_clean_of_nothing_is_a_clear_error(run, tmp_path):
    assert is_one_clear_error(run("clean", tmp_path / "nowhere"), "no folder", "nowhere")
    assert is_one_clear_error(run("clean", tmp_path, "--checks", "tidy"), "no check 'tidy'")
