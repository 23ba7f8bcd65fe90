import json

import pytest

from retrain.cli import odd


def trees(sample, count=4):
    return sorted((sample / "tree").iterdir())[:count]


def test_says_what_each_is_and_which_one_is_not_it(run, sample, model_dir):
    fish = sample / "fish" / "fish-000.jpg"
    code, out, _ = run("odd", "--label", "tree", *trees(sample), fish)
    lines = out.decode().splitlines()
    assert code == 0
    assert lines[0].startswith(f"{trees(sample)[0]} is a tree (score = 0.")
    assert f"{fish} is a " in lines[4]
    assert lines[5:] == [f"The one that is not a tree is: {fish}"]


def test_without_a_label_it_says_how_far_each_is(run, sample):
    code, out, _ = run("odd", *trees(sample))
    lines = out.decode().splitlines()
    assert code == 0
    assert lines[0].startswith(f"{trees(sample)[0]} (distance = 0.")
    assert lines[4:] == ["None stands out."]


def test_a_name_gives_the_terminal_no_orders(run, sample, tmp_path):
    hostile = tmp_path / "\x1b[2Jtwo\nlines.jpg"
    hostile.write_bytes(trees(sample)[0].read_bytes())
    code, out, _ = run("odd", hostile, *trees(sample)[1:])
    assert code == 0
    assert len(out.splitlines()) == 5
    assert b"\x1b" not in out


def test_json_is_one_object(run, sample, model_dir):
    code, out, _ = run("odd", "--json", "--label", "tree", *trees(sample), sample / "sun" / "sun-000.jpg")
    result = json.loads(out)
    assert code == 0
    assert result["odd"] == [str(sample / "sun" / "sun-000.jpg")]
    assert result["label"] == "tree"
    assert len(result["scores"]) == 5
    assert result["margin"] > 0


def test_bad_files_are_named_and_the_exit_code_tells(run, sample, tmp_path):
    (tmp_path / "words.jpg").write_text("words")
    code, out, err = run("odd", tmp_path / "words.jpg", *trees(sample))
    assert code == 3
    assert "words.jpg: not_an_image" in err
    assert out.endswith(b"None stands out.\n")


def test_two_pictures_are_too_few(run, sample):
    code, out, err = run("odd", *trees(sample, 2))
    assert code == 1
    assert not out
    assert "2 pictures are here, this needs at least 3" in err
    assert "Hint: " in err


def test_unknown_label_names_near_ones(run, sample, model_dir):
    code, _, err = run("odd", "--label", "tre", *trees(sample))
    assert code == 1
    assert "It has tree" in err


@pytest.mark.parametrize("label", ["", " "])
def test_empty_label_is_a_usage_error(run, sample, label):
    code, _, err = run("odd", "--label", label, *trees(sample))
    assert code == 2
    assert "it is empty" in err


def test_help_says_what_it_is_not_for(run):
    code, out, _ = run("odd", "--help")
    assert code == 0
    assert "not for passing bot checks" in " ".join(out.decode().split())
    assert "nothing here drives a browser" in " ".join(out.decode().split())


@pytest.mark.parametrize(("guess", "label", "expected"), [
    ({"label": "fish", "confidence": 0.875, "unknown": False}, "tree", "is a fish (score = 0.87500)"),
    ({"label": "fish", "confidence": 0.875, "unknown": True}, "tree", "is unknown, perhaps a fish (score = 0.87500)"),
    (None, "tree", "is a tree (score = 0.25000)"),
    (None, None, "(distance = 0.75000)"),
])  # fmt: skip
def test_line_says_what_a_picture_is(guess, label, expected):
    assert odd._what_it_is(guess, label, 0.75) == expected


@pytest.mark.parametrize(
    ("names", "label", "expected"),
    [
        ([], None, "None stands out."),
        ([], "tree", "Each is a tree: none stands out."),
        (["d.jpg"], None, "The odd one out is: d.jpg"),
        (["d.jpg"], "tree", "The one that is not a tree is: d.jpg"),
        (["c.jpg", "d.jpg"], None, "The odd ones out are: c.jpg, d.jpg"),
        (["c.jpg", "d.jpg"], "tree", "Those that are not a tree are: c.jpg, d.jpg"),
    ],
)
def test_answer_names_as_many_as_there_are(names, label, expected):
    assert odd._answer(names, label) == expected
