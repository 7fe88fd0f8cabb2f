"""Work in threads, so that gevent's loop goes on with other clients meanwhile.

Under gunicorn's other workers there is no such loop: the functions here just call, without a limit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .queue import Overloaded


def under_gevent() -> bool:
    """Return whether this process serves by gevent's loop."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("socket"))


@contextmanager
def raise_at(until: float, error: BaseException) -> Iterator[None]:
    """Raise `error` in the block at `until`, a time of `time.monotonic`."""
    if not under_gevent():
        yield
        return
    import gevent

    with gevent.Timeout(until - time.monotonic(), error):
        yield


class Call:
    """A call of a function in a thread of its own, begun at once."""

    def __init__(self, function: Callable, *args: object) -> None:
        self._outcome = None
        if not under_gevent():
            self._outcome = _outcome(function, args)
            return
        import gevent

        self._result = gevent.get_hub().threadpool.spawn(_outcome, function, args)

    def is_done(self, until: float) -> bool:
        """Wait for the end of the call until `until`, a time of `time.monotonic`."""
        if not self._outcome and self._result.wait(max(0, until - time.monotonic())):
            self._outcome = self._result.get()
        return self._outcome is not None

    def result(self) -> Any:
        """Return what a call that is done has returned, or raise what it raised."""
        value, error = self._outcome
        if error:
            raise error
        return value


def run_in_thread(until: float, function: Callable, *args: object) -> Any:
    """Return what the function does in a thread; raises `Overloaded` if it takes beyond `until`.

    The function itself cannot be stopped, so it must come to an end on its own.
    """
    call = Call(function, *args)
    if not call.is_done(until):
        raise Overloaded("the image took longer than it should")
    return call.result()


def _outcome(function: Callable, args: tuple) -> tuple[Any, Exception | None]:
    # gevent would write an exception that leaves the thread into the log.
    try:
        return function(*args), None
    except Exception as error:
        return None, error
