import threading
import time

import pytest

from retrain.parallel import cores, ordered_map


def test_results_come_in_order_of_the_items():
    def slow_first(number):
        time.sleep(0.01 if number % 7 == 0 else 0)
        return number

    assert list(ordered_map(slow_first, range(200))) == list(range(200))


def test_no_items_give_no_results():
    assert list(ordered_map(None, [])) == []


def test_items_are_taken_as_they_are_needed():
    taken = []
    results = ordered_map(lambda number: number, (taken.append(number) or number for number in range(10_000)))
    next(results)
    assert len(taken) <= 8 * cores() + 1
    results.close()
    assert len(taken) <= 8 * cores() + 1


def test_several_items_are_under_way_at_once():
    together = threading.Barrier(cores(), timeout=30)
    assert len(list(ordered_map(lambda _: together.wait(), range(cores())))) == cores()


def test_error_reaches_the_caller_and_ends_the_work():
    def fail_at_ten(number):
        if number == 10:
            raise ZeroDivisionError
        return number

    results = ordered_map(fail_at_ten, range(10_000))
    assert [next(results) for _ in range(10)] == list(range(10))
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_left_results_leave_no_threads():
    before = threading.active_count()
    results = ordered_map(lambda number: number, range(1_000))
    next(results)
    results.close()
    assert threading.active_count() == before
