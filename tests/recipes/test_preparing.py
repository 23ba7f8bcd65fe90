import io
import logging
import os
import shutil
from collections import Counter
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from retrain.bottlenecks import Store
from retrain.dataset import TESTING, TRAINING, VALIDATION, legacy_part, split
from retrain.errors import RetrainError
from retrain.options import QUALITIES, DataOptions
from retrain.recipes import preparing

PLAIN = DataOptions()
PICTURES_A_CLASS = 24  # of the fixture `data`


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, "retrain")
    return caplog


@pytest.fixture
def prepare(tmp_path):
    return lambda data, **options: preparing.prepare(
        data, QUALITIES["fast"], replace(PLAIN, **options), tmp_path / "bottlenecks.sqlite"
    )


def parts_of(prepared):
    """{name: part}"""
    return {path.name: part for path, part in zip(prepared.dataset.paths, prepared.parts.tolist(), strict=True)}


def parts_by_content(prepared):
    return dict(zip(prepared.digests, prepared.parts.tolist(), strict=True))


def place(content):
    """Where its hash lies, from 0 to 1: a small one is tested, a large one learned."""
    return int.from_bytes(sha256(content).digest()[:8], "big") / 2**64


def near_copy(path, at_least=0.0, below=1.0):
    """The same picture at another quality of JPEG, with a hash in that range."""
    for quality in range(60, 95):
        stream = io.BytesIO()
        Image.open(path).save(stream, "JPEG", quality=quality)
        if at_least <= place(stream.getvalue()) < below:
            return stream.getvalue()
    raise AssertionError


def test_moving_renaming_and_touching_moves_nothing(data, prepare, tmp_path):
    before = parts_by_content(prepare(data))
    data.rename(tmp_path / "elsewhere")
    for number, path in enumerate(sorted((tmp_path / "elsewhere").glob("*/*"), reverse=True)):
        (path.parent / "deeper").mkdir(exist_ok=True)
        path.rename(path.parent / "deeper" / f"{number}.dat")
        os.utime(path.parent / "deeper" / f"{number}.dat", ns=(number, number))
    assert parts_by_content(prepare(tmp_path / "elsewhere")) == before


def test_near_copies_lie_on_one_side(data, prepare):
    for path in sorted(data.glob("*/*")):
        path.with_stem(f"{path.stem}-copy").write_bytes(near_copy(path))
    parts = parts_of(prepare(data))
    assert all(parts[name.replace("-copy", "")] == part for name, part in parts.items())
    assert set(parts.values()) == {TRAINING, VALIDATION, TESTING}


def test_variants_lie_on_one_side(data, prepare):
    for number, path in enumerate(sorted((data / "fish").iterdir())):
        path.rename(path.with_name(f"{number // 6}_nohash_{number}.jpg"))
    parts = parts_of(prepare(data))
    for variant in range(4):
        assert len({part for name, part in parts.items() if name.startswith(f"{variant}_nohash")}) == 1


def test_bursts_lie_on_one_side_where_asked_for(data, prepare):
    for number, path in enumerate(sorted((data / "fish").iterdir())):
        path.rename(path.with_name(f"IMG_{number // 8}-{number}.jpg"))
    parts = parts_of(prepare(data, group_by=r"(IMG_\d+)"))
    sides = [{part for name, part in parts.items() if name.startswith(f"IMG_{burst}-")} for burst in range(3)]
    assert sorted(map(tuple, sides)) == sorted([(TRAINING,), (VALIDATION,), (TESTING,)])


def test_pictures_that_come_in_move_none(data, prepare, sample, messages):
    before = parts_by_content(prepare(data))
    for number, path in enumerate(sorted((sample / "sun").iterdir())):
        shutil.copy(path, data / ("fish", "tree")[number % 2])
    after = parts_by_content(prepare(data))
    moved = {digest for digest, part in before.items() if after[digest] != part}
    told = [record.message for record in messages.records if "came or went" in record.message]
    # One may leave the test that was put there because its class would have had none.
    assert all(before[digest] == TESTING for digest in moved if TESTING in (before[digest], after[digest]))
    assert len(told) == any(before[digest] == TESTING for digest in moved)


def test_picture_that_leaves_the_test_is_named(data, prepare, messages):
    before = parts_of(prepare(data))
    tested = next(path for path in sorted(data.glob("*/*")) if before[path.name] == TESTING)
    (tested.parent / "new.jpg").write_bytes(near_copy(tested, at_least=0.3))
    messages.clear()
    after = parts_of(prepare(data))
    assert (before[tested.name], after[tested.name], after["new.jpg"]) == (TESTING, TRAINING, TRAINING)
    assert f"learned, not tested any more, because copies of them or others of their class came or went: {tested}" in (
        messages.text
    )


def test_picture_that_enters_the_test_is_named(data, prepare, messages, tmp_path):
    first, second, *others = sorted((data / "fish").iterdir(), key=lambda path: place(path.read_bytes()))
    for path in others:
        path.rename(tmp_path / path.name)
    before = parts_of(prepare(data))
    assert (before[first.name], before[second.name]) == (TRAINING, TRAINING)
    for path in others:
        (tmp_path / path.name).rename(path)
    assert parts_of(prepare(data))[first.name] == TESTING
    assert f"tested, not learned any more, because copies of them or others of their class came or went: {first}" in (
        messages.text
    )


@pytest.mark.parametrize("was", [True, False])
def test_first_five_of_many_are_named(was, messages, tmp_path):
    digests = [sha256(bytes([number])).digest() for number in range(8)]
    dataset = preparing.Dataset(["a"], [tmp_path / f"{number}.jpg" for number in range(8)], [0] * 8)
    with Store(tmp_path / "bottlenecks.sqlite") as store:
        for tested in (was, not was):
            preparing._tell_moved(dataset, digests, np.full(8, tested), store, PLAIN)
    assert f"{tmp_path / '0.jpg'}, " in messages.text
    assert f"{tmp_path / '4.jpg'} and 3 more." in messages.text
    assert "5.jpg" not in messages.text


def test_same_pictures_again_tell_nothing(data, prepare, messages):
    prepare(data)
    prepare(data)
    prepare(data, only=("fish", "tree"), test_share=0.3)
    prepare(data, split="legacy")
    prepare(data)
    assert "any more" not in messages.text


def test_class_of_copies_of_one_picture_is_trained(data, prepare):
    source = (data / "fish" / "fish-000.jpg").read_bytes()
    for path in (data / "fish").iterdir():
        path.write_bytes(source)
    (data / "fish" / "fish-001.jpg").write_bytes(near_copy(data / "fish" / "fish-000.jpg"))
    parts = parts_of(prepare(data))
    assert {part for name, part in parts.items() if name.startswith("fish")} == {TRAINING}


def as_parts(data):
    """The same pictures as train/ and test/, with three of each class tested."""
    for name in ("fish", "tree"):
        (data / "train").mkdir(exist_ok=True)
        (data / name).rename(data / "train" / name)
        (data / "test" / name).mkdir(parents=True, exist_ok=True)
        for path in sorted((data / "train" / name).iterdir())[:3]:
            path.rename(data / "test" / name / path.name)


def test_near_copy_in_train_and_test_is_warned_of(data, prepare, messages):
    as_parts(data)
    source = data / "test" / "fish" / "fish-000.jpg"
    (data / "train" / "fish" / "copy.jpg").write_bytes(near_copy(source))
    prepare(data)
    assert "1 picture(s) of test/ have a copy in train/: the accuracy is flattered." in messages.text


def test_legacy_split_goes_by_paths_as_typed(data, prepare, monkeypatch):
    monkeypatch.chdir(data.parent)
    for typed in ("data", "./data", "data/", str(data)):
        prepared = prepare(typed, split="legacy", test_share=0.3, validation_share=0.2)
        prefix = typed.rstrip("/")
        assert parts_of(prepared) == {
            path.name: legacy_part(f"{prefix}/{path.parent.name}/{path.name}", 0.3, 0.2) for path in data.glob("*/*")
        }


def test_legacy_split_that_tears_copies_apart_is_warned_of(data, prepare, messages):
    for path in sorted(data.glob("*/*")):
        for number in range(3):
            shutil.copy(path, path.with_stem(f"{path.stem}-{number}"))
    prepare(data, split="legacy", test_share=0.5)
    assert "of the test have a copy in what is learned: the accuracy is flattered." in messages.text


def test_legacy_split_that_leaves_a_class_nothing_to_learn_is_an_error_with_a_hint(data, prepare):
    for path in sorted((data / "fish").iterdir())[1:]:
        path.unlink()
    for number in range(100):
        name = f"{number}.jpg"
        if legacy_part(str(data / "fish" / name), 0.5, 0) == TESTING:
            (data / "fish" / "fish-000.jpg").rename(data / "fish" / name)
            break
    with pytest.raises(RetrainError, match="fish: pictures in the test only") as caught:
        prepare(data, split="legacy", test_share=0.5, validation_share=0)
    assert "--split content" in caught.value.hint


def counts_of(prepared):
    return Counter(prepared.dataset.classes[label] for label in prepared.dataset.labels)


def test_cut_brings_all_classes_to_the_smallest(data, prepare, messages):
    for path in sorted((data / "fish").iterdir())[10:]:
        path.unlink()
    prepared = prepare(data, balance="cut")
    assert counts_of(prepared) == {"fish": 10, "tree": 10}
    assert prepared.left_out == 14
    assert len(prepared.embeddings) == len(prepared.digests) == len(prepared.groups) == len(prepared.parts) == 20
    assert "at most 10 pictures a class: 14 of 34 left out." in messages.text


def test_cut_keeps_embeddings_with_their_pictures(data, prepare):
    whole, cut = prepare(data), prepare(data, max_per_class=7)
    row_of = {path: row for row, path in enumerate(whole.dataset.paths)}
    rows = [row_of[path] for path in cut.dataset.paths]
    assert np.array_equal(whole.embeddings[rows], cut.embeddings)
    assert [whole.digests[row] for row in rows] == cut.digests
    assert counts_of(cut) == {"fish": 7, "tree": 7}


@pytest.mark.parametrize("balance", ["weight", "none"])
def test_without_a_limit_all_stay(data, prepare, balance):
    assert prepare(data, balance=balance).left_out == 0
    assert prepare(data, balance=balance, max_per_class=24).left_out == 0


def test_test_folder_stays_whole_when_classes_are_cut(data, prepare):
    as_parts(data)
    prepared = prepare(data, max_per_class=5)
    assert Counter(prepared.parts.tolist()) == {TRAINING: 10, TESTING: 6}


def test_chosen_pictures_stay_in_their_part(data, prepare):
    whole, cut = parts_by_content(prepare(data)), prepare(data, max_per_class=20)
    expected = split(cut.dataset.labels, cut.groups)
    assert cut.parts.tolist() == expected.tolist()
    assert sum(whole[digest] != part for digest, part in parts_by_content(cut).items()) <= 2


@pytest.mark.parametrize(("option", "words"), [("split", "no split 'x'"), ("balance", "no balance 'x'")])
def test_unknown_choice_is_an_error_with_a_hint(data, prepare, option, words):
    with pytest.raises(RetrainError, match=words) as caught:
        prepare(data, **{option: "x"})
    assert caught.value.hint


def drawn(path, width, height, orientation=1):
    """A JPEG of that size, as the camera held it; orientation 6: a portrait that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(width).integers(0, 255, (height // 50, width // 50, 3), np.uint8)
    Image.fromarray(noise).resize((width, height)).save(path, exif=exif)


def test_pictures_too_small_are_skipped_with_the_reason(data, prepare):
    drawn(data / "fish" / "large.jpg", 400, 300)
    drawn(data / "tree" / "large.jpg", 400, 301)
    prepared = prepare(data, min_size=(400, 300))
    assert set(parts_of(prepared)) == {"large.jpg"}
    assert len(prepared.embeddings) == len(prepared.digests) == 2
    assert Counter(str(error) for _, error in prepared.skipped) == {
        "too_small (96 x 96 px, the limit is 400 x 300)": 48
    }


@pytest.mark.parametrize(("min_size", "fits"), [((3000, 2000), True), ((3001, 2000), False), ((3000, 2001), False)])
def test_size_is_that_before_decoding(data, prepare, min_size, fits):
    drawn(data / "fish" / "large.jpg", 3000, 2000)
    for label in ("fish", "tree"):
        drawn(data / label / "huge.jpg", 4000, 3000)
    for _ in range(2):  # the second time from the store
        assert ("large.jpg" in parts_of(prepare(data, min_size=min_size))) == fits


def test_size_is_that_of_the_upright_picture(data, prepare):
    drawn(data / "fish" / "portrait.jpg", 600, 400, orientation=6)
    drawn(data / "tree" / "landscape.jpg", 600, 400)
    for label in ("fish", "tree"):
        drawn(data / label / "large.jpg", 800, 800)
    assert "portrait.jpg" not in parts_of(prepare(data, min_size=(500, 300)))
    assert "landscape.jpg" in parts_of(prepare(data, min_size=(500, 300)))


def test_size_is_found_where_the_embedding_is_stored_already(data, prepare):
    drawn(data / "fish" / "large.jpg", 400, 300)
    drawn(data / "tree" / "large.jpg", 400, 301)
    prepare(data)
    assert set(parts_of(prepare(data, min_size=(97, 0)))) == {"large.jpg"}
    assert prepare(data, min_size=(97, 0)).computed == 0


def test_no_picture_large_enough_says_so(data, prepare):
    with pytest.raises(RetrainError, match="all refused: 48 too_small") as caught:
        prepare(data, min_size=(1000, 1000))
    assert caught.value.hint
