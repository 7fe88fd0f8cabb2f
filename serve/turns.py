"""Who may use the model, and when: in order, one at a time, and nobody who would wait in vain."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Each run also costs something that does not grow with the image; as if it had more pixels.
PIXELS_A_RUN = 20_000
# How much one run changes what is expected of the next.
MEMORY = 0.5
# Seconds a run may take longer than it was given before it counts as hung.
GRACE = 1


class Overloaded(Exception):
    """There is more to do than can be done in time; `retry_after` is when to try again, in s."""

    def __init__(self, reason: str, retry_after: float = 1) -> None:
        self.retry_after = max(1, math.ceil(retry_after))
        wait = f"come back in {self.retry_after} s"
        super().__init__(f"the server has too much to do: {reason}; {wait}")


class Turns:
    """A bounded number of `places` for requests in hand, and the turn at the model among them.

    One image at a time has it: a second run would share the same cores, so it would finish no
    image earlier, and it would need its own memory for the network's layers.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._in_hand = 0
        self._tell: Callable[[int], object] = lambda count: None
        self._tell_refused: Callable[[], object] = lambda: None
        self._queue: deque[_Ticket] = deque()  # the first one has its turn
        self._pace = 0.0  # seconds a pixel, of the last runs

    def watch(self, tell: Callable[[int], object], tell_refused: Callable[[], object]) -> None:
        """Call `tell` from now on with how many requests hold a place, whenever that changes, and
        `tell_refused` for each that is refused at the door.
        """
        self._tell, self._tell_refused = tell, tell_refused

    def refused_at_door(self) -> Overloaded | None:
        """Return what `place` would raise now; None if it would not. For who has not come in yet:
        no thread, no request object and no JSON are spent on what is refused anyway.
        """
        with self._lock:
            refusal = self._refusal()
        if refusal:
            self._tell_refused()
        return refusal

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places; raises `Overloaded` at once if there is none."""
        with self._lock:
            if refusal := self._refusal():
                raise refusal
            self._change(1)
        try:
            yield
        finally:
            with self._lock:
                self._change(-1)

    @contextmanager
    def turn(self, pixels: int, until: float) -> Iterator[None]:
        """Wait for the turn at the model with an image of so many `pixels`, and hold it.

        `until` is when the answer must be there, on the clock of `time.monotonic`. Raises
        `Overloaded` as soon as it is clear that it would be later: an image that is begun in vain
        takes the time of one that could have been in time, and so of all that follow.
        """
        ticket = _Ticket(pixels, until)
        with self._lock:
            ahead, own = self._ahead(), self._expected(ticket)
            # If nobody is ahead it is tried, or one slow run would shut the door for ever.
            if self._queue and time.monotonic() + ahead + own > until:
                raise Overloaded("too many images are ahead to answer this one in time", ahead)
            self._queue.append(ticket)
            if self._queue[0] is ticket:
                ticket.called.set()
        try:
            if not ticket.called.wait(until - own - time.monotonic()):
                raise Overloaded("the images ahead took longer than they should", ahead)
            start = time.monotonic()
            try:
                yield
            finally:  # a run that was stopped took at least as long
                self._learn(ticket, time.monotonic() - start)
        finally:
            with self._lock:
                self._queue.remove(ticket)
                if self._queue:
                    self._queue[0].called.set()

    def hung(self) -> bool:
        """Return whether the image whose turn it is should have been done long ago."""
        with self._lock:
            return bool(self._queue) and time.monotonic() > self._queue[0].until + GRACE

    def _refusal(self) -> Overloaded | None:
        if self._in_hand < self._places:
            return None
        return Overloaded(f"{self._places} images are in hand already", self._ahead())

    def _change(self, by: int) -> None:
        self._in_hand += by
        self._tell(self._in_hand)

    def _expected(self, *tickets: _Ticket) -> float:
        return self._pace * sum(ticket.cost for ticket in tickets)

    def _ahead(self) -> float:
        return self._expected(*self._queue)

    def _learn(self, ticket: _Ticket, seconds: float) -> None:
        with self._lock:
            pace = seconds / ticket.cost
            self._pace += (pace - self._pace) * (MEMORY if self._pace else 1)


class _Ticket:
    def __init__(self, pixels: int, until: float) -> None:
        self.cost = pixels + PIXELS_A_RUN
        self.until = until
        self.called = threading.Event()
