import pytest

from retrain.backbones import APPLICATIONS, BACKBONES, find_spec
from retrain.errors import RetrainError


@pytest.mark.parametrize("name", [*BACKBONES, *APPLICATIONS])
def test_name_finds_its_spec(name):
    assert find_spec(name).name == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("efficientnet-lite", "efficientnet-lite0"),
        ("EfficientNetLite2", "efficientnet-lite2"),
        ("lite0", "lite0"),
        ("keras:mobilenetv3large", "keras:MobileNetV3Large"),
        ("keras:ResNet-50", "keras:ResNet50"),
        ("MobileNetV2", "keras:MobileNetV2"),
        ("keras:MobileNetV2,size=7", "keras:MobileNetV2"),
    ],
)
def test_unknown_name_suggests_near_ones(name, near):
    with pytest.raises(RetrainError, match=name) as caught:
        find_spec(name)
    assert "Did you mean" in caught.value.hint
    assert near in caught.value.hint


@pytest.mark.parametrize("name", ["", "zzz", "\n", "../../etc/passwd"])
def test_foreign_name_points_to_the_list(name):
    with pytest.raises(RetrainError) as caught:
        find_spec(name)
    assert caught.value.hint == "retrain backbones lists them."


def test_network_of_keras_may_be_asked_for_at_another_size():
    spec = find_spec("keras:MobileNetV2,size=160")
    assert (spec.name, spec.image_size, spec.embedding_size) == ("keras:MobileNetV2,size=160", 160, 1280)
    assert "bicubic160" in spec.preprocessing


@pytest.mark.parametrize("spec", [*BACKBONES.values(), *APPLICATIONS.values()], ids=lambda spec: spec.name)
def test_spec_says_what_its_weights_need(spec):
    assert spec.precision in ("int8", "float32")
    assert spec.licence
    assert spec.paper
    assert f"crop{spec.crop}-bicubic{spec.image_size}" in spec.preprocessing
