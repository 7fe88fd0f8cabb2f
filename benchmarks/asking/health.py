"""Whether a server is healthy, asked again and again while something happens to it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from benchmarks.running.statistics import spread_ms
from tumour_segmenter import client


class HealthProbe:
    """`with HealthProbe(url) as probe:` asks after the server's health every tenth of a second."""

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self.missed = 0
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            try:
                reply = client.ask(self._url, "/healthz/ready", timeout=5)
                self.seconds.append(reply.seconds)
                self.missed += reply.status != 200
            except client.Unanswered:
                self.missed += 1

    def __enter__(self) -> HealthProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def report(self) -> dict:
        return {"asked": len(self.seconds), "missed": self.missed, "ms": spread_ms(self.seconds)}


def wait_until(is_so: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until `is_so()`, None if it is not within `seconds`."""
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        with contextlib.suppress(OSError):  # a process that ends while it is looked at
            if is_so():
                return round(passed, 3)
        time.sleep(0.01)
    return None
