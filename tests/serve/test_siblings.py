"""Workers of one server share its images out, though all of them wait for the same connections."""

import threading
import time
from types import SimpleNamespace

import pytest

from serve import siblings
from serve.queue import Queue
from tests.support.serving import post, serving, wait
from tests.support.slow_model import lasting, minutes, write_slow_artifact


@pytest.fixture
def fewer():
    """Whether each of three workers thinks that another has fewer images, by what they have."""
    workers = [SimpleNamespace(number=number, sockets=[]) for number in (0, 1, 5)]
    queues = [Queue(1000) for _ in workers]
    for pair in zip(workers, queues, strict=True):
        siblings.share_out(*pair)

    def ask(*in_flight: int) -> list[bool]:
        for queue, count in zip(queues, in_flight, strict=True):
            for watch in queue.watchers:
                watch(count)
        return [siblings.have_fewer(worker.number) for worker in workers]

    yield ask
    for worker in workers:
        siblings.forget(worker.number)


def test_who_has_more_than_another_knows_it(fewer):
    assert fewer(0, 0, 0) == [False, False, False]
    assert fewer(1, 0, 2) == [True, False, True]
    assert fewer(2, 2, 2) == [False, False, False]
    assert fewer(900, 254, 999) == [False, False, False]
    assert fewer(3, 2, 3) == [True, False, True]


def test_a_worker_that_ended_counts_no_more(fewer):
    assert fewer(1, 0, 1) == [True, False, True]
    siblings.forget(1)
    assert not any(map(siblings.have_fewer, (0, 1, 5)))


def test_who_replaces_a_worker_gets_its_number():
    assert siblings.free_number([]) == 0
    others = [SimpleNamespace(number=number) for number in (0, 3, 1)]
    assert siblings.free_number(others) == 2


@pytest.mark.slow
def test_images_go_to_the_worker_that_has_none(tmp_path):
    model = write_slow_artifact(tmp_path / "model.onnx")
    with serving(model, WORKERS="2", DEADLINE="5") as server:
        wait(lambda: len(server.ready_workers()) == 2)
        long = threading.Thread(target=post, args=(server.url, minutes()), kwargs={"timeout": 30})
        long.start()
        time.sleep(0.5)  # until it is in the model
        replies = [post(server.url, lasting(250), timeout=30) for _ in range(8)]
        long.join()
    assert {reply.status for reply in replies} == {200}
    assert max(reply.seconds for reply in replies) < 3  # none had to wait for it
