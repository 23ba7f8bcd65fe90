from collections import Counter
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from retrain.cli.sample import command
from retrain.errors import RetrainError
from retrain.options import SampleOptions
from retrain.recipes.sampling import SUBJECTS, draw, draw_sample

SMALL = SampleOptions(per_class=2, size=32)


def test_one_folder_a_class(tmp_path):
    paths = draw_sample(tmp_path / "out", SMALL)
    assert Counter(path.parent.name for path in paths) == dict.fromkeys(SUBJECTS, 2)
    assert sorted(paths) == sorted((tmp_path / "out").glob("*/*.jpg"))
    with Image.open(paths[0]) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))


def test_same_seed_draws_same_files(tmp_path):
    first, again = (draw_sample(tmp_path / name, SMALL) for name in ("first", "again"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    other = draw_sample(tmp_path / "other", SampleOptions(per_class=2, size=32, seed=1))
    assert {path.read_bytes() for path in first}.isdisjoint(path.read_bytes() for path in other)


def test_larger_set_begins_with_smaller_one(tmp_path):
    small = draw_sample(tmp_path / "small", SMALL)
    draw_sample(tmp_path / "large", SampleOptions(per_class=3, size=32))
    for path in small:
        assert path.read_bytes() == (tmp_path / "large" / path.relative_to(tmp_path / "small")).read_bytes()


@pytest.mark.parametrize("label", SUBJECTS)
def test_subject_is_drawn_in_colors_of_its_own(label):
    pictures = [np.asarray(draw(label, Random(seed), 64), float) for seed in range(40)]
    mean_colors = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    assert pictures[0].shape == (64, 64, 3)
    # Any class may have any colour, so that colour alone tells nothing.
    assert mean_colors.std(axis=0).min() > 20


@pytest.mark.parametrize("name", ["there", "there/file.txt"])
def test_refuses_what_is_there(tmp_path, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file.txt").write_text("mine")
    with pytest.raises(RetrainError, match="not an empty folder") as caught:
        draw_sample(tmp_path / name, SMALL)
    assert caught.value.hint
    assert [path.name for path in (tmp_path / "there").rglob("*")] == ["file.txt"]


def test_draws_into_empty_folder(tmp_path):
    assert draw_sample(tmp_path, SMALL)


def test_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RetrainError, match="cannot write"):
        draw_sample(tmp_path / "file" / "out", SMALL)


def test_command_says_what_it_made_and_what_comes_next(tmp_path):
    out = tmp_path / "my photos"
    result = CliRunner().invoke(command, [str(out), "--per-class", "1", "--size", "32"])
    assert result.exit_code == 0
    assert "5 pictures of 5 classes" in result.stdout
    assert f"retrain train '{out}'" in result.stdout


def test_command_refuses_no_pictures(tmp_path):
    assert CliRunner().invoke(command, [str(tmp_path / "out"), "--per-class", "0"]).exit_code == 2
