"""What the workers of one server know of each other: how many images each has in flight.

All of them wait for the same connections, and the one that is awake is the first to accept: the one
that has just answered. Left alone, one worker comes to have all clients and another one none.
"""

from __future__ import annotations

import mmap
from typing import Any

from . import loop
from .queue import Queue

# A byte a worker, which gunicorn's master shares with those that it forks: 0 for none, else one
# more than it has in flight. Two workers that meet in a byte would only be shared out less well.
_counts = mmap.mmap(-1, 256)
# Seconds, and how often, that a worker leaves a connection to those that have fewer images, which
# may be finishing an answer. Its model goes on meanwhile.
MOMENT, MOMENTS = 0.001, 5


def have_fewer(worker: Any) -> bool:
    """Return whether another worker has fewer images in flight than `worker`."""
    own = _counts[_place(worker)]
    return own > 1 and any(0 < count < own for count in _counts[:])


def forget(worker: Any) -> None:
    """Count a worker that ended no more."""
    _counts[_place(worker)] = 0


class Siblings:
    """Tells the others what a gevent `worker` has in its `queue`, and leaves clients to them."""

    def __init__(self, worker: Any, queue: Queue) -> None:
        import gevent
        from gevent.monkey import get_original

        self._worker = worker
        self._tell(queue.in_flight)
        queue.watchers.append(self._tell)
        self._door = get_original("select", "poll")()
        for listener in worker.sockets:
            self._door.register(listener.fileno(), 1)  # POLLIN
        # Called after the loop was woken, before it accepts.
        self._watcher = gevent.get_hub().loop.check(ref=False)
        self._watcher.start(self._hold_back)

    def _tell(self, in_flight: int) -> None:
        _counts[_place(self._worker)] = min(1 + in_flight, 255)

    def _hold_back(self) -> None:
        for _ in range(MOMENTS):  # if nobody accepts it meanwhile, this worker does
            if not (self._door.poll(0) and have_fewer(self._worker)):
                return
            loop.plain_sleep(MOMENT)


def _place(worker: Any) -> int:
    return worker.age % len(_counts)
