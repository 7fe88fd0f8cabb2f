"""Queue slots, and their way to the model."""

import threading
import time

import pytest

from serve.queue import Overloaded, Queue

LATER = 60.0


def now() -> float:
    return time.monotonic()


def run(queue, pixels=1, until=None, during=lambda: None):
    """Go the whole way of one image."""
    with queue.slot(until or now() + LATER) as slot:
        slot.wait_to_decode()
        with slot.model(pixels):
            during()


def wait_for(true) -> None:
    end = now() + LATER
    while not true():
        assert now() < end
        time.sleep(0.001)


class Holding:
    """An image that has the model until the block ends."""

    def __init__(self, queue, pixels=1):
        self._free, self._has = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=run, args=(queue, pixels, None, self._hold))

    def _hold(self):
        self._has.set()
        self._free.wait(LATER)

    def __enter__(self):
        self._thread.start()
        assert self._has.wait(LATER)

    def __exit__(self, *_):
        self._free.set()
        self._thread.join()


def test_slots_are_bounded_and_given_back():
    seen = []
    queue = Queue(2)
    queue.watchers.append(seen.append)
    until = now() + LATER
    for _ in range(2):
        with queue.slot(until), queue.slot(until):
            with pytest.raises(Overloaded, match="2 images are in flight") as caught:
                queue.check()
            assert caught.value.retry_after == 1
            with pytest.raises(Overloaded), queue.slot(until):
                pass
        queue.check()
    assert seen == [1, 2, 1, 0] * 2


def test_a_slot_is_given_back_when_the_request_fails():
    queue = Queue(1)

    def fail():
        raise ValueError("broken")

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            run(queue, during=fail)
        with pytest.raises(ValueError, match="broken"), queue.slot(now() + LATER):
            fail()


def test_one_at_a_time_first_come_first_served():
    queue, order, inside = Queue(10), [], []

    def take(i):
        def during():
            inside.append(i)
            assert len(inside) == 1
            order.append(i)
            time.sleep(0.01)
            inside.remove(i)

        run(queue, during=during)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(6)]
    with Holding(queue):
        for count, thread in enumerate(threads, start=2):
            thread.start()
            wait_for(lambda count=count: queue.in_flight == count)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_only_one_image_is_decoded_ahead():
    queue, decoded = Queue(10), []

    def take(i):
        with queue.slot(now() + LATER) as slot:
            slot.wait_to_decode()
            decoded.append(i)
            with slot.model(1):
                pass

    threads = [threading.Thread(target=take, args=(i,)) for i in range(4)]
    with Holding(queue):
        for count, thread in enumerate(threads, start=2):
            thread.start()
            wait_for(lambda count=count: queue.in_flight == count)
        wait_for(lambda: decoded)
        time.sleep(0.05)
        assert decoded == [0]
    for thread in threads:
        thread.join()
    assert sorted(decoded) == [0, 1, 2, 3]


def test_what_cannot_be_in_time_is_told_at_once():
    queue = Queue(10)
    run(queue, 1000, during=lambda: time.sleep(0.5))  # expected of the next of this size as well
    with Holding(queue, 1000):
        start = now()
        with pytest.raises(Overloaded, match="too many images"):
            run(queue, 1000, until=now() + 0.8)
        assert now() - start < 0.4
    run(queue, 1000)


def test_what_turns_out_large_is_told_before_it_runs():
    queue = Queue(10)
    run(queue, 1000, during=lambda: time.sleep(0.1))
    with Holding(queue, 1000), pytest.raises(Overloaded, match="too many images"):
        run(queue, 100_000_000, until=now() + 30)  # an image of that size takes minutes


def test_what_waits_in_vain_is_told_before_its_time_is_over():
    queue = Queue(10)
    with Holding(queue), pytest.raises(Overloaded, match="longer than they should"):
        run(queue, until=now() + 0.1)
    run(queue)  # the one that gave up does not block the others


def test_after_slow_runs_others_are_tried():
    queue = Queue(10)
    queue._pace = 1.0  # a second a pixel
    run(queue, 1000, until=now() + LATER)
    assert queue._pace < 1


def test_a_run_that_was_stopped_is_learnt_from():
    queue = Queue(10)

    def stop():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run(queue, during=stop)
    assert queue._pace > 0


def test_a_closed_queue_refuses_those_who_wait_and_those_who_come():
    queue, refused = Queue(10), []

    def take():
        try:
            run(queue)
        except Overloaded as error:
            refused.append(str(error))

    thread = threading.Thread(target=take)
    with Holding(queue):
        thread.start()
        wait_for(lambda: queue.in_flight == 2)
        queue.close()
        thread.join(LATER)
    take()
    assert len(refused) == 2
    assert all("replaced" in message for message in refused)
    with pytest.raises(Overloaded):
        queue.check()
