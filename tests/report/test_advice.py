import pytest
from pages import CURVE

from retrain.report import advise

PETS = ["cat", "dog", "fox"]
COUNTS = dict.fromkeys(PETS, 50)
PERFECT = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]


def advice(matrix=PERFECT, **others):
    return " ".join(advise(PETS, others.pop("counts", COUNTS), matrix, **others))


def test_nothing_known_is_nothing_said():
    assert advise(PETS, COUNTS, PERFECT) == []


def test_two_classes_confused_most_are_named_by_mistakes_either_way():
    matrix = [[9, 2, 3], [2, 9, 0], [0, 0, 9]]
    assert "cat and dog are confused most: 4 of their 25 judged pictures" in advice(matrix)


def test_single_mistake_is_named_and_none_is_not():
    assert "cat and dog are confused most: 1 of" in advice([[9, 1, 0], [0, 9, 0], [0, 0, 9]])
    assert advice(PERFECT) == ""


def test_class_that_gains_most_is_named_with_how_sure_that_is():
    named = [{"class": 2, "gain": 0.3, "interval": [0.2, 0.4], "confidence": 0.987}]
    text = advice(learning_curve=CURVE | {"helps_most": named})
    assert "More pictures of fox would help most" in text
    assert "30 points" in text and "15 (98.7 % sure" in text


@pytest.mark.parametrize(
    ("accuracy", "highest_gain", "words"),
    [(0.95, 0.2, "every class would help"), (0.87, 0.02, "would bring little"), (0.87, 0.2, "")],
)
def test_where_no_class_stands_out_the_curve_tells_whether_more_would_help(accuracy, highest_gain, words):
    points = [*CURVE["points"][:-1], CURVE["points"][-1] | {"accuracy": accuracy}]
    curve = CURVE | {"points": points, "gain": {"gain": 0.01, "interval": [-0.01, highest_gain]}}
    assert (words in advice(learning_curve=curve)) and (words or not advice(learning_curve=curve))


def test_small_classes_are_named_smallest_first():
    assert "Fewer than 20 pictures: dog (3), cat (19)." in advice(counts={"cat": 19, "dog": 3, "fox": 20})


def test_shortcut_is_a_warning_and_comes_first():
    found = advise(PETS, COUNTS, [[9, 3, 0], [0, 9, 0], [0, 0, 9]], shortcut={"flagged": True, "classes": ["fox"]})
    assert found[0].startswith("Warning: fox")
    assert len(found) == 2
    assert "Warning" not in advice(shortcut={"flagged": False, "classes": []})


def test_shortcut_of_no_class_in_particular_is_told_of_all():
    assert "Warning: the classes may be told" in advice(shortcut={"flagged": True, "classes": []})
