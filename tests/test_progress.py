import re
import sys

import pytest

from retrain import progress
from retrain.progress import SHORT, track


@pytest.fixture(params=[False, True], ids=["off a terminal", "on a terminal"])
def terminal(request, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: request.param)
    return request.param


def test_all_items_come_through(terminal):
    with progress.shown():
        assert list(track(iter(range(50)), "Counting", 50)) == list(range(50))


def test_off_a_terminal_one_line_says_how_fast(monkeypatch, capsys):
    with progress.shown():
        list(track(range(50), "Counting", 50))
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"Counting: 50 in \d+\.\d s \(\d+/s\)\n", err)


def test_what_ends_early_tells_how_many_there_were(monkeypatch, capsys):
    with progress.shown():
        list(track(range(7), "Counting", 50))
    assert capsys.readouterr().err.startswith("Counting: 7 in ")


def test_any_name_can_stand_before_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with progress.shown():
        list(track(range(50), "[/] [bold]", 50))
    assert "[/] [bold]" in capsys.readouterr().err


def test_a_bar_can_be_asked_for_where_the_terminal_is_not_seen(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with progress.shown():
        list(track(range(50), "Counting", 50))
    assert "50/50" in capsys.readouterr().err


def test_on_a_terminal_stdout_stays_clean(terminal, capsys):
    with progress.shown():
        list(track(range(50), "Counting", 50))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("total", "shown"), [(SHORT - 1, True), (50, False)])
def test_short_or_unasked_work_says_nothing(terminal, capsys, total, shown):
    if shown:
        with progress.shown():
            list(track(range(total), "Counting", total))
    else:
        list(track(range(total), "Counting", total))
    assert capsys.readouterr().err == ""


def test_an_error_ends_the_showing():
    with pytest.raises(ZeroDivisionError), progress.shown():
        list(track((1 / 0 for _ in range(50)), "Counting", 50))
    assert not progress._shown


def test_listener_hears_each_item_and_may_end_the_work():
    heard = []
    with progress.told(lambda *told: heard.append(told)):
        assert list(progress.track("ab", "Reading", 2)) == ["a", "b"]
        progress.stage("Thinking")
    list(progress.track("ab", "Unheard", 2))
    progress.stage("Unheard")
    assert heard == [("Reading", 0, 2), ("Reading", 1, 2), ("Reading", 2, 2), ("Thinking", 0, 0)]

    def stop(_description, done, _total):
        if done:
            raise InterruptedError

    with pytest.raises(InterruptedError), progress.told(stop):
        list(progress.track("abc", "Reading", 3))
