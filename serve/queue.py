"""Queue slots for images in flight, and their way to the model: in order, one at a time.

Nobody waits in vain: who cannot be answered in time is told so at once, or as soon as it shows.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from werkzeug.exceptions import ServiceUnavailable

# Each run also costs something that does not grow with the image; as if it had more pixels.
PIXELS_A_RUN = 20_000
# How much one image changes what is expected of the next.
MEMORY = 0.5


class Overloaded(ServiceUnavailable):
    """There is more to do than can be done in time; `retry_after` is when to try again, in s."""

    api_code = "overloaded"

    def __init__(self, reason: str, retry_after: float = 1) -> None:
        seconds = max(1, math.ceil(retry_after))
        super().__init__(
            f"the server has too much to do: {reason}; come back in {seconds} s",
            retry_after=seconds,
        )


class Queue:
    """A bounded number of `slots` for images in flight, and the line to the model among them.

    One image at a time has the model: a second run would share the same cores, so it would finish
    no image earlier, and it would need its own memory for the network's layers. All of `watchers`
    are called with how many images are in flight, whenever that changes.
    """

    def __init__(self, slots: int) -> None:
        self.watchers: list[Callable[[int], object]] = []
        self.in_flight = 0
        self.closed = threading.Event()  # for good: an image hangs in the model
        self._slots = slots
        self._changed = threading.Condition()  # gevent's own, where its worker serves
        self._line: list[Slot] = []  # the first one has the model
        self._pace = 0.0  # seconds a pixel, of the last runs
        self._cost = 0.0  # pixels, of the last images

    def check(self) -> None:
        """Raise `Overloaded` if there is no slot now, before anything is spent on a request."""
        with self._changed:
            self._check()

    @contextmanager
    def slot(self, until: float) -> Iterator[Slot]:
        """Hold a slot, in line for the model; raises `Overloaded` at once if there is none.

        `until` is when the answer must be there, on the clock of `time.monotonic`. It is also
        raised as soon as it is clear that it would be later: an image that is begun in vain takes
        the time of one that could have been in time, and so of all that follow.
        """
        slot = Slot(self, until)
        with self._changed:
            self._check()
            self._check_time(slot, self._line)
            self._line.append(slot)
            self._count(1)
        try:
            yield slot
        finally:
            self._leave(slot)
            with self._changed:
                self._count(-1)

    def close(self) -> None:
        """Refuse those who wait, and all who come: the model will not be free again."""
        with self._changed:
            self.closed.set()
            self._changed.notify_all()

    def _check(self) -> None:
        if self.closed.is_set():
            raise Overloaded("the model hangs, and this worker is being replaced")
        if self.in_flight >= self._slots:
            raise Overloaded(f"{self._slots} images are in flight", self._expected(self._line))

    def _check_time(self, slot: Slot, ahead: list[Slot]) -> None:
        # If nobody is ahead it is tried, or after one slow run nothing would ever be tried again.
        expected = self._expected(ahead)
        if ahead and time.monotonic() + expected + self._expected([slot]) > slot.until:
            raise Overloaded("too many images are ahead to answer this one in time", expected)

    def _wait(self, slot: Slot, most_ahead: int) -> None:
        with self._changed:
            left = slot.until - self._expected([slot]) - time.monotonic()
            came = self._changed.wait_for(
                lambda: self.closed.is_set() or self._line.index(slot) <= most_ahead, left
            )
            if self.closed.is_set():
                self._check()
            if not came:
                raise Overloaded("the images ahead took longer than they should")

    def _leave(self, slot: Slot) -> None:
        with self._changed:
            if slot in self._line:
                self._line.remove(slot)
                self._changed.notify_all()

    def _count(self, by: int) -> None:
        self.in_flight += by
        for watch in self.watchers:
            watch(self.in_flight)

    def _expected(self, slots: list[Slot]) -> float:
        return self._pace * sum(slot.cost or self._cost for slot in slots)

    def _learn(self, slot: Slot, seconds: float) -> None:
        with self._changed:
            weight = MEMORY if self._pace else 1
            self._pace += (seconds / slot.cost - self._pace) * weight
            self._cost += (slot.cost - self._cost) * weight


class Slot:
    """One image's slot in a `Queue`: wait for the turn to be decoded, then hold the `model`."""

    def __init__(self, queue: Queue, until: float) -> None:
        self.until = until
        self.cost = 0.0  # pixels; 0: not known yet
        self._queue = queue

    def wait_to_decode(self) -> None:
        """Wait until at most one image is ahead, so that one is decoded while another runs.

        Raises `Overloaded`, as `model` does.
        """
        self._queue._wait(self, 1)

    @contextmanager
    def model(self, pixels: int) -> Iterator[None]:
        """Wait for the model with an image of so many `pixels`, and hold it."""
        queue = self._queue
        self.cost = pixels + PIXELS_A_RUN
        with queue._changed:
            queue._check_time(self, queue._line[: queue._line.index(self)])
        queue._wait(self, 0)
        start = time.monotonic()
        try:
            yield
        finally:  # a run that was stopped took at least as long
            queue._learn(self, time.monotonic() - start)
            queue._leave(self)
