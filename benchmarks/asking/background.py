"""Load that goes on in the background while something happens to the server, and who lost what."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass

from benchmarks.asking import client
from benchmarks.asking.load import Question
from benchmarks.common import percentile

TIMEOUT = 20.0  # seconds; above the server's limit, so that it is seen where that is exceeded


@dataclass(frozen=True)
class Outcome:
    """How a question went: `began` on time.perf_counter's clock, `seconds` until it was known.

    `kind` is "mask" (the right one), "busy" (503), "refused" (nobody listened, so the server never
    had it) or "lost" (everything else), and `why` tells more of what was lost.
    """

    began: float
    seconds: float
    kind: str
    why: str = ""


class Load:
    """`with Load(url, questions, ...) as asked:` asks until the end of the block.

    Without `rate` each of the `clients` asks again as soon as it has its answer. With it questions
    come at that many a second, whether or not the server keeps up, as far as the clients suffice.
    """

    def __init__(
        self, url: str, questions: list[Question], clients: int, rate: float | None = None
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._url, self._questions, self._rate = url, questions, rate
        self._numbers = itertools.count()  # its next() is atomic
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            if self._rate:
                due = self._start + number / self._rate
                if self._stop.wait(max(0.0, due - time.perf_counter())):
                    return
            outcome = ask(self._url, self._questions[number % len(self._questions)])
            self.outcomes.append(outcome)
            if outcome.kind == "refused":
                time.sleep(0.05)  # nobody is there to be loaded

    def __enter__(self) -> Load:
        self._start = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def report(self) -> dict:
        """What became of all questions, as JSON values."""
        report = {kind: len(self.of(kind)) for kind in ("mask", "busy", "refused", "lost")}
        # Those that were still waited for at the end would make an overloaded server look fast.
        end = self._start + self.seconds
        in_time = sum(o.began + o.seconds <= end for o in self.of("mask"))
        report["masks_per_s"] = round(in_time / self.seconds, 2)
        for kind in ("mask", "busy"):
            report[f"{kind}_ms"] = spread([o.seconds for o in self.of(kind)])
        report["why_lost"] = dict(Counter(o.why for o in self.of("lost")).most_common(5))
        return report

    def of(self, kind: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.kind == kind]


def ask(url: str, question: Question) -> Outcome:
    start = time.perf_counter()
    try:
        reply = client.ask(url, "/predict", question.body, TIMEOUT)
    except client.Unanswered as error:
        kind = "refused" if "ConnectionRefused" in str(error) else "lost"
        return Outcome(start, time.perf_counter() - start, kind, str(error))
    if reply.status == 503:
        return Outcome(start, reply.seconds, "busy")
    fault = question.fault(reply)
    return Outcome(start, reply.seconds, "lost" if fault else "mask", fault)


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
        return {"asked": len(self.seconds), "missed": self.missed, "ms": spread(self.seconds)}


def spread(seconds: list[float]) -> dict[str, float] | None:
    """Median, p99 and maximum in ms, rounded; None if there is nothing."""
    if not seconds:
        return None
    ms = {f"p{q}": percentile([1000 * s for s in seconds], q) for q in (50, 99)}
    return {name: round(value, 1) for name, value in (ms | {"max": 1000 * max(seconds)}).items()}


def wait_until(true, seconds: float) -> float | None:
    """Seconds until `true()` is, None if it is not within `seconds`."""
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        with contextlib.suppress(OSError):  # a process that ends while it is looked at
            if true():
                return round(passed, 3)
        time.sleep(0.01)
    return None
