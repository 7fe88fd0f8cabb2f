"""Who may use the model, and when."""

import threading
import time

import pytest

from serve.turns import Overloaded, Turns

LATER = 60.0


def now() -> float:
    return time.monotonic()


def test_places_are_bounded_and_given_back():
    turns, seen = Turns(2), []
    turns.watch(seen.append, lambda: None)
    with turns.place(), turns.place(), pytest.raises(Overloaded) as caught, turns.place():
        pass
    assert caught.value.retry_after == 1
    with turns.place(), turns.place():
        pass
    assert seen == [1, 2, 1, 0, 1, 2, 1, 0]


def test_who_stands_at_the_door_hears_what_they_would_hear_inside():
    turns, refused = Turns(1), []
    turns.watch(lambda count: None, lambda: refused.append(1))
    assert turns.refused_at_door() is None
    with turns.place():
        with pytest.raises(Overloaded) as inside, turns.place():
            pass
        assert str(turns.refused_at_door()) == str(inside.value)
    assert turns.refused_at_door() is None
    assert len(refused) == 1


def test_a_place_is_given_back_when_the_request_fails():
    turns = Turns(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), turns.place():
            raise ValueError("broken")


def test_one_at_a_time_first_come_first_served():
    turns, order, inside = Turns(10), [], []

    def take(i):
        with turns.turn(1, now() + LATER):
            inside.append(i)
            assert len(inside) == 1
            order.append(i)
            time.sleep(0.01)
            inside.remove(i)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(6)]
    with turns.turn(1, now() + LATER):
        for count, thread in enumerate(threads, start=2):
            thread.start()
            while len(turns._queue) < count:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_who_cannot_be_in_time_is_told_at_once():
    turns = Turns(10)
    with turns.turn(1000, now() + LATER):
        time.sleep(0.2)  # from now on an image of this size is expected to take as long
    with turns.turn(1000, now() + LATER):
        start = now()
        with pytest.raises(Overloaded, match="too many images"), turns.turn(1000, now() + 0.3):
            pass
        assert now() - start < 0.2
    with turns.turn(1000, now() + LATER):
        pass


def test_who_waits_in_vain_is_told_before_its_time_is_over():
    turns = Turns(10)
    with turns.turn(1, now() + LATER):
        until = now() + 0.1
        with pytest.raises(Overloaded, match="longer than they should"), turns.turn(1, until):
            pass
    with turns.turn(1, now() + LATER):  # the one that gave up does not block the others
        pass


def test_slow_runs_never_shut_the_door_for_ever():
    turns = Turns(10)
    turns._pace = 1.0  # a second a pixel
    with turns.turn(1000, now() + 0.1):
        pass
    assert turns._pace < 1


def test_a_run_that_was_stopped_is_learnt_from():
    turns = Turns(10)
    with pytest.raises(TimeoutError), turns.turn(1, now() + LATER):
        raise TimeoutError
    assert turns._pace > 0


def test_only_a_turn_that_is_long_over_is_hung(monkeypatch):
    turns = Turns(10)
    assert not turns.hung()
    with turns.turn(1, now() + LATER):
        assert not turns.hung()
        long_after = now() + LATER + 2
        monkeypatch.setattr(time, "monotonic", lambda: long_after)
        assert turns.hung()
    assert not turns.hung()
