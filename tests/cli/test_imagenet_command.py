import json
import re

import pytest

OLD_FORM = re.compile(rb"\S.* \(score = [01]\.\d{5}\)")


def test_imagenet_prints_five_labels_in_the_old_form(run, picture):
    code, out, err = run("imagenet", picture)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 5
    assert all(OLD_FORM.fullmatch(line) for line in out.splitlines())


def test_imagenet_of_a_folder_starts_each_block_with_its_path(run, sample):
    _, out, _ = run("imagenet", "--top", "1", sample / "sun")
    lines = out.decode().splitlines()
    assert lines[::2] == sorted(str(path) for path in (sample / "sun").iterdir())
    assert all(OLD_FORM.fullmatch(line.encode()) for line in lines[1::2])


def test_imagenet_json_has_the_rows_of_guess(run, picture, model_dir):
    rows = [json.loads(run(command, picture, "--json")[1]) for command in ("guess", "imagenet")]
    assert list(rows[0]) == list(rows[1])
    assert len(rows[1]["scores"]) == 5
    assert rows[1]["label"] == next(iter(rows[1]["scores"]))


def test_imagenet_reads_standard_input(run, picture):
    _, piped, _ = run("imagenet", "-", stdin=picture.read_bytes())
    assert piped == run("imagenet", picture)[1]


def test_imagenet_below_threshold_is_unknown(run, picture):
    assert run("imagenet", "--threshold", "0.999", picture)[1].startswith(b"unknown; nearest:\n")


def test_imagenet_goes_on_after_a_bad_file_and_exits_with_3(run, picture, tmp_path):
    (tmp_path / "bad.jpg").write_text("words")
    code, out, err = run("imagenet", tmp_path / "bad.jpg", picture)
    assert code == 3
    assert out.count(b"(score = ") == 5
    assert "1 file(s) failed." in err


@pytest.mark.parametrize("arguments", [[], ["--top", "0"], ["--threshold", "2"]])
def test_wrong_use_of_imagenet_exits_with_2(run, picture, arguments):
    assert run("imagenet", *arguments, *([picture] if arguments else []))[0] == 2
