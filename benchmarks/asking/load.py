"""Asks a server many times at once, in two ways, and keeps how every single answer came.

Closed loop: so many clients, each asks again as soon as it has its answer. It shows capacity, but a
slow answer holds the next question back, so that waiting is hidden. Open loop: questions arrive on
a schedule whether or not the server keeps up, and what counts is the time since one was due.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, cycle, islice

from benchmarks.asking.question import Question
from benchmarks.running.statistics import spread_ms
from tumour_segmenter import client

# Open loop: questions under way at once. Later ones wait for one of these, and that time counts.
IN_FLIGHT = 64
KINDS = ("mask", "busy", "refused", "lost")


@dataclass(frozen=True)
class Answer:
    """How a question went: `seconds` after it was asked, and how long after it was `due`.

    `began` is when it was asked, on time.perf_counter's clock. `kind` is "mask" (the right one),
    "busy" (503), "refused" (nobody listened, so the server never had it) or "lost" (everything
    else); `fault` tells more of all but the first. `stages` are the server's own times in ms.
    """

    began: float
    seconds: float
    kind: str
    fault: str = ""
    due: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> float:
        return self.began + self.seconds

    @property
    def waited(self) -> float:
        return self.ended - (self.due or self.began)


@dataclass(frozen=True)
class Window:
    """The answers of one stretch of load, and how many seconds it took until the last was there."""

    answers: list[Answer]
    seconds: float


class Load:
    """`with Load(url, questions, clients) as load:` asks until the end of the block.

    Each of the `clients` asks the next of `questions` as soon as it has its answer, and one at
    least. With a `rate` questions come at that many a second, as far as the clients suffice.
    """

    def __init__(
        self,
        url: str,
        questions: Iterable[Question],
        clients: int,
        rate: float | None = None,
        timeout: float = client.TIMEOUT,
    ) -> None:
        self.answers: list[Answer] = []  # append is atomic
        self._url, self._clients, self._rate, self._timeout = url, clients, rate, timeout
        self._questions = zip(count(), questions, strict=False)
        self._lock, self._stop = threading.Lock(), threading.Event()

    def address(self) -> str:
        """The server that the next question goes to."""
        return self._url

    def _ask(self) -> None:
        while True:
            with self._lock:
                number, question = next(self._questions, (0, None))
            if question is None:
                return
            due = time.perf_counter()
            if self._rate:
                due = self._start + number / self._rate
                if self._stop.wait(max(0.0, due - time.perf_counter())):
                    return
            answer = ask(self.address(), question, due, self._timeout)
            self.answers.append(answer)
            if answer.kind == "refused":
                time.sleep(0.05)  # nobody is there to be loaded
            if self._stop.is_set():
                return

    def __enter__(self) -> Load:
        self._start = time.perf_counter()
        self._pool = ThreadPoolExecutor(self._clients)
        self._running = [self._pool.submit(self._ask) for _ in range(self._clients)]
        return self

    def wait(self, seconds: float | None = None) -> None:
        """Wait for so many seconds, or less if there are no more questions."""
        wait(self._running, seconds)

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self._stop.set()
        self._pool.shutdown()
        for running in self._running:
            running.result()  # a mistake in here must not look like an idle client

    def of(self, kind: str) -> list[Answer]:
        return [answer for answer in self.answers if answer.kind == kind]

    def window(self) -> Window:
        """All answers, once the block has ended."""
        return Window(self.answers, max(answer.ended for answer in self.answers) - self._start)

    def report(self) -> dict:
        """What became of all questions, as JSON values."""
        report: dict = {kind: len(self.of(kind)) for kind in KINDS}
        # Those that were still waited for at the end would make an overloaded server look fast.
        end = self._start + self.seconds
        in_time = sum(answer.ended <= end for answer in self.of("mask"))
        report["masks_per_s"] = round(in_time / self.seconds, 2)
        for kind in ("mask", "busy"):
            report[f"{kind}_ms"] = spread_ms([answer.seconds for answer in self.of(kind)])
        lost = Counter(answer.fault for answer in self.of("lost"))
        report["why_lost"] = dict(lost.most_common(5))
        return report


def closed(
    url: str, questions: list[Question], clients: int, seconds: float, timeout: float
) -> Window:
    """`clients` ask without pause for `seconds`, each at least once; waits for the last answer."""
    with Load(url, cycle(questions), clients, timeout=timeout) as load:
        load.wait(seconds)
    return load.window()


def open_loop(
    url: str, questions: list[Question], rate: float, seconds: float, timeout: float
) -> Window:
    """Questions at `rate` a second for `seconds`, evenly spaced; waits for the last answer."""
    number = max(1, round(rate * seconds))
    asked = islice(cycle(questions), number)
    with Load(url, asked, min(IN_FLIGHT, number), rate, timeout) as load:
        load.wait()
    return load.window()


def ask(url: str, question: Question, due: float, timeout: float) -> Answer:
    """Asks now what was `due` on time.perf_counter's clock."""
    start = time.perf_counter()
    try:
        reply = client.ask(url, "/predict", question.body, timeout)
    except client.Unanswered as error:
        kind = "refused" if isinstance(error.__cause__, ConnectionRefusedError) else "lost"
        return Answer(start, time.perf_counter() - start, kind, str(error), due)
    fault = question.fault(reply)
    kind = "busy" if reply.status == 503 else "lost" if fault else "mask"
    return Answer(start, reply.seconds, kind, fault, due, stages_of(reply))


def stages_of(reply: client.Reply) -> dict[str, float]:
    """Of `Server-Timing: decode;dur=1.5, run;dur=30` {"decode": 1.5, "run": 30.0}, leniently."""
    stages = {}
    for entry in reply.headers.get("Server-Timing", "").split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            try:
                if key == "dur":
                    stages[name] = float(value)
            except ValueError:
                continue
    return stages
