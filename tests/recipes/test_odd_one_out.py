import re
import shutil

import numpy as np
import pytest
from PIL import Image

from retrain import OddOptions, RetrainError, TrainOptions, find_odd_one_out, train
from retrain.model import load_model
from retrain.recipes import odd_one_out

TREES, FISH = (
    [f"tree/tree-{number:03}.jpg" for number in range(6)],
    [f"fish/fish-{number:03}.jpg" for number in range(2)],
)


def paths(sample, names):
    return [str(sample / name) for name in names]


@pytest.fixture
def stripes(tmp_path):
    """A picture unlike all that are drawn."""
    Image.fromarray(np.tile(np.uint8([[[255, 0, 255]], [[0, 255, 0]]]), (48, 96, 1))).save(tmp_path / "stripes.png")
    return str(tmp_path / "stripes.png")


def test_without_a_label_the_one_unlike_the_others_ranks_first(sample, stripes):
    files = [*paths(sample, TREES[:3]), stripes, *paths(sample, TREES[3:])]
    result = find_odd_one_out(files)
    assert list(result["scores"]) == files
    assert max(result["scores"], key=result["scores"].get) == stripes
    assert result["margin"] > 0
    assert result["label"] is None
    assert result["guesses"] == {}


def test_without_a_label_the_one_that_is_no_copy_of_the_others_is_odd(sample, stripes, tmp_path):
    with Image.open(sample / TREES[0]) as image:
        for quality in (60, 70, 80, 90):
            image.save(tmp_path / f"{quality}.jpg", quality=quality)
    assert find_odd_one_out([*sorted(tmp_path.glob("*.jpg")), stripes])["odd"] == [stripes]


def test_without_a_label_no_model_and_no_folder_is_needed(sample, tmp_path):
    find_odd_one_out([sample / "sun"])
    assert not (tmp_path / "tf_files").exists()


def test_with_a_label_what_is_not_it_is_odd(sample, model_dir):
    result = find_odd_one_out(paths(sample, TREES + FISH), OddOptions(label="tree"))
    assert set(result["odd"]) == set(paths(sample, FISH))
    assert result["margin"] > 0
    assert {result["guesses"][path]["label"] for path in result["odd"]} == {"fish"}


def test_with_a_label_none_may_be_odd_or_all(sample, model_dir):
    assert find_odd_one_out(paths(sample, TREES), OddOptions(label="tree"))["odd"] == []
    result = find_odd_one_out(paths(sample, FISH), OddOptions(label="tree"))
    assert sorted(result["odd"]) == paths(sample, FISH)
    assert result["margin"] is None


def test_a_path_named_twice_counts_once(sample):
    with pytest.raises(RetrainError, match="2 pictures are here, this needs at least 3"):
        find_odd_one_out(paths(sample, [*TREES[:2], *TREES[:2]]))


def test_bad_files_are_rows(sample, tmp_path):
    (tmp_path / "words.jpg").write_text("words")
    result = find_odd_one_out([tmp_path / "words.jpg", *paths(sample, TREES)])
    assert [(row["path"], row["reason"].split()[0]) for row in result["skipped"]] == [
        (str(tmp_path / "words.jpg"), "not_an_image")
    ]
    assert list(result["scores"]) == paths(sample, TREES)


def test_too_few_pictures_are_an_error_that_names_the_refused(sample, tmp_path, model_dir):
    (tmp_path / "words.jpg").write_text("words")
    with pytest.raises(RetrainError, match=r"2 pictures are here, this needs at least 3; .*words.jpg: not_an_image"):
        find_odd_one_out([tmp_path / "words.jpg", *paths(sample, TREES[:2])])
    with pytest.raises(RetrainError, match="0 pictures are here, this needs at least 1"):
        find_odd_one_out([tmp_path / "words.jpg"], OddOptions(label="tree"))


def test_an_unknown_label_is_an_error_with_near_names_and_what_to_do(sample, model_dir):
    with pytest.raises(RetrainError, match="no label 'treee'") as caught:
        find_odd_one_out(paths(sample, TREES), OddOptions(label="treee"))
    assert "It has tree" in caught.value.hint
    assert "For a new one: retrain crawl treee --out " in caught.value.hint


def test_a_label_without_a_model_is_an_error(sample):
    with pytest.raises(RetrainError):
        find_odd_one_out(paths(sample, TREES), OddOptions(label="tree"))


def test_only_shipped_networks_are_needed_without_a_label():
    from retrain.backbones import find_spec

    assert all(find_spec(name).shipped_sha256 for name in odd_one_out.BACKBONES)


def test_file_names_may_be_hostile(sample, tmp_path, model_dir):
    names = ["two words.jpg", "new\nline.jpg", "-dash.jpg", "日本.jpg"]
    for name, source in zip(names, TREES, strict=False):
        shutil.copy(sample / source, tmp_path / name)
    for options in (OddOptions(), OddOptions(label="tree")):
        assert set(find_odd_one_out([tmp_path / name for name in names], options)["scores"]) == {
            str(tmp_path / name) for name in names
        }


@pytest.fixture
def gallery(sample, open_gallery):
    return open_gallery(sample)


NEW = {"label": "tree", "sources": ("openverse",), "limit": 20, "min_size": (64, 64)}


@pytest.fixture
def beside(sample, tmp_path):
    """A model of fish and suns, and their pictures in the data folder."""
    for name in ("fish", "sun"):
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / name)
    options = TrainOptions(balance="cut", reject_rate=0.1, report=False)
    train(tmp_path / "tf_files" / "data", options)


def test_label_never_seen_is_crawled_and_learned_beside_the_others(sample, beside, gallery, tmp_path):
    result = find_odd_one_out(paths(sample, TREES + FISH[:1]), OddOptions(**NEW))
    assert result["odd"] == paths(sample, FISH[:1])
    assert result["by"] == "model"
    assert 10 <= result["learned"] <= 20
    model = load_model(tmp_path / "tf_files" / "model")
    assert model.classes == ["fish", "sun", "tree"]
    assert (model.info["options"]["balance"], model.reject_rate) == ("cut", 0.1)
    asked = len(gallery.asked)
    again = find_odd_one_out(paths(sample, TREES + FISH[:1]), OddOptions(**NEW))
    assert again == result | {"learned": None}
    assert len(gallery.asked) == asked


def test_without_a_model_the_other_folders_are_the_other_classes(sample, gallery, tmp_path):
    shutil.copytree(sample / "fish", tmp_path / "tf_files" / "data" / "fish")
    result = find_odd_one_out(paths(sample, TREES + FISH[:1]), OddOptions(**NEW))
    assert result["by"] == "model"
    assert load_model(tmp_path / "tf_files" / "model").classes == ["fish", "tree"]


def test_without_another_class_the_distance_to_its_pictures_decides(sample, gallery, stripes, tmp_path):
    result = find_odd_one_out([*paths(sample, TREES), stripes], OddOptions(**NEW))
    assert result["by"] == "pictures of the label"
    assert result["odd"] == [stripes]
    assert result["guesses"] == {}
    assert not (tmp_path / "tf_files" / "model").exists()


def test_own_pictures_of_a_new_label_need_no_network(sample, beside, tmp_path):
    shutil.copytree(sample / "tree", tmp_path / "tf_files" / "data" / "tree")
    result = find_odd_one_out(paths(sample, TREES + FISH[:1]), OddOptions(label="tree"))
    assert result["learned"] == 24
    assert max(result["scores"], key=result["scores"].get) == str(sample / FISH[0])


def test_mistyped_label_is_not_learned(sample, beside, gallery):
    with pytest.raises(RetrainError, match="no label 'fisch'") as caught:
        find_odd_one_out(paths(sample, FISH), OddOptions(**NEW | {"label": "fisch"}))
    assert "It has fish." in caught.value.hint
    assert not gallery.asked


def test_model_whose_pictures_are_elsewhere_is_not_trained_anew(sample, model_dir, gallery):
    before = (model_dir / "model.json").read_bytes()
    with pytest.raises(RetrainError, match=r"the model knows boat, fish, .* holds no pictures") as caught:
        find_odd_one_out(paths(sample, FISH), OddOptions(**NEW | {"label": "unicorn"}))
    assert "--data" in caught.value.hint
    assert not gallery.asked
    assert (model_dir / "model.json").read_bytes() == before


@pytest.mark.parametrize("label", ["tree.jpg", "photos/tree", "*", "pets.PNG"])
def test_file_that_is_not_there_is_not_taken_for_a_label(sample, beside, gallery, label):
    with pytest.raises(RetrainError, match="there is no file"):
        find_odd_one_out(paths(sample, FISH), OddOptions(**NEW | {"label": label}))
    assert not gallery.asked


def test_model_of_other_pictures_in_like_named_folders_is_not_trained_anew(sample, beside, gallery, tmp_path):
    for name in ("fish", "sun"):
        shutil.rmtree(tmp_path / "tf_files" / "data" / name)
    shutil.copytree(sample / "house", tmp_path / "tf_files" / "data" / "fish")
    shutil.copytree(sample / "boat", tmp_path / "tf_files" / "data" / "sun")
    before = (tmp_path / "tf_files" / "model" / "model.json").read_bytes()
    with pytest.raises(RetrainError, match="holds other pictures than the model has learned"):
        find_odd_one_out(paths(sample, TREES), OddOptions(**NEW))
    assert not gallery.asked
    assert (tmp_path / "tf_files" / "model" / "model.json").read_bytes() == before


def test_distance_alone_needs_as_many_pictures_as_let_one_be_strange(sample, gallery, stripes):
    with pytest.raises(RetrainError, match="12 pictures a class are too few") as caught:
        find_odd_one_out([*paths(sample, TREES), stripes], OddOptions(**NEW | {"limit": 12}))
    fewest = int(re.search(r"--limit (\d+)", caught.value.hint)[1])
    result = find_odd_one_out([*paths(sample, TREES), stripes], OddOptions(**NEW | {"limit": fewest}))
    assert result["odd"] == [stripes]


def test_label_of_which_nothing_is_found_changes_no_model(sample, beside, gallery, tmp_path):
    before = (tmp_path / "tf_files" / "model" / "model.json").read_bytes()
    with pytest.raises(RetrainError, match="0 pictures of unicorn were found"):
        find_odd_one_out(paths(sample, FISH), OddOptions(**NEW | {"label": "unicorn"}))
    assert (tmp_path / "tf_files" / "model" / "model.json").read_bytes() == before
