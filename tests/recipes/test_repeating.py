import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest

from retrain import TrainOptions, train, train_like
from retrain.errors import RetrainError
from retrain.model import load_manifest, load_model
from retrain.options import QUALITIES

PICTURES_A_CLASS = 24

UNUSUAL = TrainOptions(
    only=("fish", "tree"), test_share=0.2, validation_share=0.2, group_by=r"(IMG_\d+)", balance="none",
    max_per_class=9, min_size=(50, 60), seed=7, max_minutes=7.5, reject_rate=0.2, report=False,
)  # fmt: skip


@pytest.fixture
def first(sample, tmp_path):
    """A model trained with unusual options."""
    train(sample, replace(UNUSUAL, model_dir=tmp_path / "first" / "model"))
    return tmp_path / "first" / "model"


def changed(model, change):
    """`model.json` of a model folder, changed."""
    manifest = json.loads((model / "model.json").read_bytes())
    change(manifest)
    (model / "model.json").write_text(json.dumps(manifest))
    return model


def differing(result):
    return {row["what"] for row in result["differences"]}


@pytest.mark.parametrize("named", ["model", "model/model.json"])
def test_repeated_training_gives_the_same_bytes(first, sample, tmp_path, named):
    shutil.copytree(sample, tmp_path / "elsewhere")
    again = train_like(first.parent / named, tmp_path / "elsewhere", model_dir=tmp_path / "again" / "model")
    assert again["differences"] == []
    assert again["computed"] > 0  # nothing came from the first one's store
    for name in ("head.npz", "trust.npz"):
        assert Path(again["model_dir"], name).read_bytes() == (first / name).read_bytes()


def test_every_option_is_repeated(first, sample, tmp_path):
    left_to_default = {"model_dir", "split", "quality", "backbone", "multi_label", "fine_tune", "log_dir"}
    left_to_default |= {"faces", "i_have_consent"}  # tests/recipes/test_people.py repeats a training on faces
    unchanged = {field.name for field in fields(UNUSUAL) if getattr(UNUSUAL, field.name) == field.default}
    assert unchanged == left_to_default
    train_like(first, sample, model_dir=tmp_path / "again")
    assert load_manifest(tmp_path / "again")["info"]["options"] == load_manifest(first)["info"]["options"]


def test_model_repeats_itself_in_its_own_place(first, sample):
    before = (first / "head.npz").read_bytes()
    assert train_like(first, sample, model_dir=first)["differences"] == []
    assert (first / "head.npz").read_bytes() == before


def test_pictures_with_several_labels_have_them_again(data, tmp_path):
    for path in sorted((data / "fish").iterdir())[:3]:
        shutil.copy(path, data / "tree")
    train(data, TrainOptions(multi_label=True, report=False, model_dir=tmp_path / "several"))
    result = train_like(tmp_path / "several", data)
    assert (result["multi_label"], result["differences"]) == (True, [])


def test_model_json_alone_is_enough(first, sample, tmp_path):
    shutil.copy(first / "model.json", tmp_path / "of a friend.json")
    assert train_like(tmp_path / "of a friend.json", sample)["differences"] == []


def test_model_tells_the_machine_it_was_trained_on(first):
    info = load_manifest(first)["info"]
    assert info["platform"]["system"]
    assert info["platform"]["machine"]
    assert info["options"]["seed"] == 7


def test_other_pictures_are_told_of(first, sample, tmp_path, caplog):
    shutil.copytree(sample, tmp_path / "fewer")
    (tmp_path / "fewer" / "fish" / "fish-000.jpg").unlink()
    result = train_like(first, tmp_path / "fewer", max_per_class=None)
    assert differing(result) == {"pictures", "head.npz", "option max_per_class"}
    assert "option max_per_class: None now, 9 then." in caplog.text


def test_other_versions_and_machines_are_told_of(first, sample, caplog):
    def elsewhere(manifest):
        manifest["info"]["versions"]["numpy"] = "1.0"
        manifest["info"]["platform"] = {"system": "Plan 9", "machine": "mips"}

    result = train_like(changed(first, elsewhere), sample)
    assert differing(result) == {"numpy", "system", "machine"}
    assert "Plan 9 then." in caplog.text


def test_what_is_typed_wins(first, sample):
    result = train_like(first, sample, seed=8, only=("boat", "sun"))
    assert result["classes"] == ["boat", "sun"]
    assert {"option seed", "option only", "classes"} <= differing(result)
    assert load_model(result["model_dir"]).info["options"]["max_per_class"] == 9


def test_quality_means_what_it_meant_then(first, sample):
    def of_old(manifest):
        manifest["info"]["backbone"] = "efficientnet-lite2"

    old = changed(first, of_old)
    assert train_like(old, sample)["backbone"] == "efficientnet-lite2"
    assert train_like(old, sample, quality="fast")["backbone"] == QUALITIES["fast"]


def test_network_of_the_user_s_own_has_to_be_named_again(first, sample):
    def brought(manifest):
        manifest["backbones"][0]["spec"] |= {"name": "own.tflite", "source_sha256": "0" * 64}

    old = changed(first, brought)
    with pytest.raises(RetrainError, match=r"own\.tflite") as caught:
        train_like(old, sample)
    assert "--backbone" in caught.value.hint
    assert "backbone" in differing(train_like(old, sample, backbone="efficientnet-lite0"))


@pytest.mark.parametrize(
    ("option", "value"),
    [("seed", "zero"), ("only", 3), ("test_share", None), ("balance", 1), ("max_per_class", 1.5), ("min_size", "big")],
)
def test_options_that_are_none_are_an_error_with_a_hint(first, sample, option, value):
    with pytest.raises(RetrainError, match=option) as caught:
        train_like(changed(first, lambda manifest: manifest["info"]["options"].update({option: value})), sample)
    assert caught.value.hint


@pytest.mark.parametrize("lost", ["options", "data_sha256", "versions"])
def test_model_that_does_not_tell_how_it_was_made_is_an_error_before_any_work(first, sample, tmp_path, lost):
    with pytest.raises(RetrainError, match="does not say how it was trained") as caught:
        train_like(changed(first, lambda manifest: manifest["info"].pop(lost)), sample, model_dir=tmp_path / "again")
    assert caught.value.hint
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format_version": 99}', b"\xff"])
def test_file_that_is_no_model_is_an_error_with_a_hint(sample, tmp_path, content):
    (tmp_path / "notes.json").write_bytes(content)
    with pytest.raises(RetrainError, match=r"notes\.json") as caught:
        train_like(tmp_path / "notes.json", sample)
    assert caught.value.hint
