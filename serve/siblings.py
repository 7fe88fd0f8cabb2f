"""What the workers of one server know of each other: how many images each has in flight.

All of them wait for the same connections, and the one that is awake is the first to accept: the one
that has just answered. Left alone, one worker comes to have all clients and another one none.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Any

import gevent
from gevent.monkey import get_original

from .queue import Queue

MOST = 1024  # workers, also while those before and after a reload are there together
# A byte a worker, which gunicorn's master shares with those that it forks: 0 for none, else one
# more than it has in flight.
_counts = mmap.mmap(-1, MOST)
# Seconds, and how often, that a worker leaves a connection to those that have fewer images, which
# may be finishing an answer. Its model goes on meanwhile.
MOMENT, MOMENTS = 0.001, 5


def free_number(workers: Iterable[Any]) -> int:
    """Return the lowest number that none of the `workers` has; who replaces one gets its number."""
    taken = {worker.number for worker in workers}
    return next(number for number in range(MOST) if number not in taken)


def have_fewer(number: int) -> bool:
    """Return whether another worker has fewer images in flight than this one."""
    own = _counts[number]
    return own > 1 and any(0 < count < own for count in _counts[:])


def forget(number: int) -> None:
    """Count a worker that ended no more."""
    _counts[number] = 0


def share_out(worker: Any, queue: Queue) -> None:
    """Have a gevent `worker` tell the others what is in its `queue`, and leave clients to them."""

    def tell(in_flight: int) -> None:
        _counts[worker.number] = min(1 + in_flight, 255)

    sleep = get_original("time", "sleep")  # nothing else goes on, but signals are handled
    door = get_original("select", "poll")()
    for listener in worker.sockets:
        door.register(listener.fileno(), 1)  # POLLIN

    def hold_back() -> None:
        for _ in range(MOMENTS):  # if nobody accepts it meanwhile, this worker does
            if not (door.poll(0) and have_fewer(worker.number)):
                return
            sleep(MOMENT)

    tell(queue.in_flight)
    queue.watchers.append(tell)
    # Called after the loop was woken, before it accepts.
    worker.check = gevent.get_hub().loop.check(ref=False)
    worker.check.start(hold_back)
