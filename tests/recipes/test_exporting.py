import json
import os
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrain.dataset import TESTING, TRAINING, VALIDATION, find_dataset
from retrain.errors import RetrainError
from retrain.images import decode, to_input
from retrain.options import DatasetOptions, TrainOptions
from retrain.recipes import exporting
from retrain.recipes.exporting import MANIFEST, export_dataset
from retrain.recipes.training import train

PICTURES_A_CLASS = 12  # of the fixture `data`


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def lines(out):
    return [json.loads(line) for line in (out / MANIFEST).read_text("ascii").splitlines()]


def tree(folder):
    """{file: its content}"""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_pictures_lie_in_the_folder_of_their_part_and_class(data, out):
    result = export_dataset(data, out)
    assert (result["images"], result["classes"], result["skipped"]) == (24, ["fish", "tree"], [])
    assert set(result["parts"]) == {TRAINING, VALIDATION, TESTING}
    assert sum(result["parts"].values()) == 24
    for part, count in result["parts"].items():
        assert len(list((out / part).glob("*/*.jpg"))) == count
    assert {path.name for path in out.iterdir()} == {MANIFEST, TRAINING, VALIDATION, TESTING}


def test_unknown_pictures_are_not_exported(data, sample, out, tmp_path):
    export_dataset(data, tmp_path / "before")
    shutil.copytree(sample / "sun", data / "_unknown")
    export_dataset(data, out)
    assert tree(out) == tree(tmp_path / "before")


def test_manifest_tells_where_each_picture_comes_from(data, out):
    export_dataset(data, out)
    for line in lines(out):
        source, path = Path(line["source"]), out / line["file"]
        assert (path.parent.parent.name, path.parent.name) == (line["part"], line["label"])
        assert line["label"] == source.parent.name
        assert line["source_sha256"] == sha256(source.read_bytes()).hexdigest()
        assert line["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert {line["file"] for line in lines(out)} | {MANIFEST} == set(tree(out))


def test_parts_are_those_of_training(data, out):
    kept_back = train(data, TrainOptions(report=False, test_share=0.3))["test_images"]
    assert export_dataset(data, out, DatasetOptions(test_share=0.3))["parts"][TESTING] == kept_back


def test_picture_is_what_the_networks_see(data, out):
    export_dataset(data, out, DatasetOptions(size=160))
    for line in lines(out):
        image = Image.open(out / line["file"])
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (160, 160))
        expected = to_input(decode(Path(line["source"]).read_bytes()), 160, 0.875)
        assert np.abs(np.asarray(image, int) - expected).mean() < 3


def test_whole_crop_keeps_the_borders(data, out):
    picture = Image.new("RGB", (200, 100), "white")
    picture.paste("red", (50, 0, 60, 100))
    picture.save(data / "fish" / "wide.png")
    export_dataset(data, out, DatasetOptions(crop=1.0))
    file = next(line["file"] for line in lines(out) if line["source"].endswith("wide.png"))
    red, _, blue = Image.open(out / file).getpixel((5, 100))
    assert red - blue > 150


def test_same_pictures_give_the_same_bytes(data, out, tmp_path):
    for folder in (out, tmp_path / "again"):
        export_dataset(data, folder)
    assert tree(out) == tree(tmp_path / "again")


def test_exported_set_is_used_as_split(data, out):
    export_dataset(data, out)
    dataset = find_dataset(out)
    assert dataset.classes == ["fish", "tree"]
    assert Counter(dataset.parts) == Counter(line["part"] for line in lines(out))


def test_options_of_the_data_count(data, out):
    shutil.copy(data / "fish" / "fish-000.jpg", data / "fish" / "again.jpg")
    result = export_dataset(data, out, DatasetOptions(balance="cut", only=("fish", "tree"), test_share=0.0))
    assert (result["images"], result["left_out"]) == (24, 1)
    assert TESTING not in result["parts"]


HOSTILE = [
    "new\nline.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    "🌻.jpg",
    "-x.jpg",
    "a:b?.jpg",
    "con.jpg",
    "a. .jpg",
    "x" * 250,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_become_safe_ones(data, out, name):
    (data / "fish" / "fish-000.jpg").rename(data / "fish" / name)
    (data / "tree").rename(data / name.removesuffix(".jpg"))
    assert export_dataset(data, out)["images"] == 24
    for line in lines(out):
        path = out / line["file"]
        assert path.is_file()
        assert os.fsencode(path.name).decode().isprintable()
        assert not set(path.name) & set('/\\:*?"<>|')
        assert len(os.fsencode(path.name)) <= 255
    assert {line["source"] for line in lines(out)} >= {str(data / "fish" / name)}


def test_same_names_are_told_apart(data, out):
    paths = sorted((data / "fish").iterdir())
    (data / "fish" / "deeper").mkdir()
    for path, name in zip(paths, ["a.jpg", "a.png", "A.jpeg", "deeper/a.jpg", "a-2.jpg"], strict=False):
        path.rename(data / "fish" / name)
    export_dataset(data, out, DatasetOptions(test_share=0.0, validation_share=0.0))
    names = [Path(line["file"]).name.casefold() for line in lines(out)]
    assert len(set(names)) == len(names) == 24


def test_bad_files_are_listed_and_left_out(data, out):
    (data / "fish" / "text.jpg").write_text("words")
    result = export_dataset(data, out)
    assert result["images"] == 24
    assert [(Path(row["path"]).name, row["reason"].split()[0]) for row in result["skipped"]] == [
        ("text.jpg", "not_an_image")
    ]


def test_picture_that_changes_meanwhile_is_listed_and_left_out(data, out, monkeypatch):
    def prepare(*arguments, real=exporting.prepare):
        prepared = real(*arguments)
        shutil.copy(data / "fish" / "fish-001.jpg", data / "fish" / "fish-000.jpg")
        (data / "fish" / "fish-002.jpg").unlink()
        return prepared

    monkeypatch.setattr(exporting, "prepare", prepare)
    result = export_dataset(data, out)
    assert (result["images"], len(lines(out))) == (22, 22)
    assert {Path(row["path"]).name for row in result["skipped"]} == {"fish-000.jpg", "fish-002.jpg"}


def something(out):
    out.mkdir()
    (out / ".hidden").touch()


def file(out):
    out.touch()


@pytest.mark.parametrize("prepare", [something, file])
def test_what_is_there_is_left_alone(data, out, prepare):
    prepare(out)
    before = sorted(out.rglob("*")) if out.is_dir() else out.read_bytes()
    with pytest.raises(RetrainError, match="not an empty folder") as caught:
        export_dataset(data, out)
    assert caught.value.hint
    assert (sorted(out.rglob("*")) if out.is_dir() else out.read_bytes()) == before


def test_empty_folder_is_taken(data, out):
    out.mkdir()
    assert export_dataset(data, out)["images"] == 24


@pytest.mark.parametrize("place", ["", "fish", "new/deeper"])
def test_folder_within_the_data_is_refused(data, place):
    before = tree(data)
    with pytest.raises(RetrainError) as caught:
        export_dataset(data, data / place)
    assert caught.value.hint
    assert tree(data) == before


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_export_leaves_nothing(data, out, monkeypatch, interrupt):
    written = []

    def write_bytes(self, content, real=Path.write_bytes):
        written.append(self)
        if len(written) == 9:
            raise interrupt
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(BaseException) as caught:
        export_dataset(data, out)
    assert caught.type is (KeyboardInterrupt if interrupt is KeyboardInterrupt else RetrainError)
    assert tree(out) == {}


def test_place_that_cannot_be_written_is_an_error_with_a_hint(data):
    with pytest.raises(RetrainError, match="cannot write to /proc/out") as caught:
        export_dataset(data, "/proc/out")
    assert caught.value.hint
