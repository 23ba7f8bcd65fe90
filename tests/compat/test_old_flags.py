"""How the old programs read their command lines."""

from dataclasses import fields

import pytest

from retrain.compat import PROGRAMS, main
from retrain.compat.flags import parser_of, read
from retrain.compat.retraining import FLAGS
from retrain.options import RetrainOptions


@pytest.fixture
def parser():
    parser = parser_of("retrain.py", "")
    parser.add_argument("--how_many_training_steps", type=int, default=4000)
    parser.add_argument("--test_batch_size", type=int, default=500)
    parser.add_argument("--flip_left_right", action="store_true")
    return parser


@pytest.mark.parametrize(
    "argv",
    [
        ["--how_many_training_steps=5", "--test_batch_size=-1", "--flip_left_right"],
        ["--how_many_training_steps", "5", "--test_batch_size", "-1", "--flip_left_right"],
        ["--how_many", "5", "--test", "-1", "--flip"],  # abbreviated, as argparse ever allowed
    ],
)
def test_flags_are_read_as_they_were(parser, argv, caplog):
    assert vars(read(parser, argv)) == {
        "how_many_training_steps": 5, "test_batch_size": -1, "flip_left_right": True,
    }  # fmt: skip
    assert not caplog.messages


def test_unknown_flag_is_named_with_the_nearest_one(parser, caplog):
    flags = read(parser, ["--how_many_trainings_steps=5", "--colour", "red"])
    assert flags.how_many_training_steps == 4000
    first, *others = caplog.messages
    assert "--how_many_trainings_steps=5" in first
    assert first.endswith("Did you mean --how_many_training_steps?")
    assert [message.split(":")[0] for message in others] == ["retrain.py has no --colour", "retrain.py has no red"]


def test_every_flag_of_retrain_has_its_help():
    assert list(FLAGS) == [field.name for field in fields(RetrainOptions)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_has_its_help(program, capsys):
    with pytest.raises(SystemExit) as ended:
        main(program, ["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {program} ")
