"""Asks a server many times at once, in two ways, and keeps what every single answer took.

Closed loop: so many clients, each asks again as soon as it has its answer. It shows capacity, but a
slow answer holds the next question back, so that waiting is hidden. Open loop: questions arrive on
a schedule whether or not the server keeps up, and the time counts from when one was due.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from benchmarks.asking import client
from tumour_segmenter.folders import counted

# Open loop: questions under way at once. Later ones wait for one of these, and that time counts.
IN_FLIGHT = 64


@dataclass
class Question:
    """One image of (H, W) `shape` as the JSON to post, and its right answer if that is known.

    `mask` is uint8 H×W, None if any well-formed mask will do; `replies` are bodies that were
    decoded and found right, so that checking a timed answer costs a comparison of bytes.
    """

    body: bytes
    shape: tuple[int, int]
    mask: np.ndarray | None = None
    replies: set[bytes] = field(default_factory=set)

    def fault(self, reply: client.Reply) -> str:
        """What is wrong with `reply`, empty if nothing."""
        if reply.status == 200 and reply.body in self.replies:
            return ""
        try:
            mask = client.read_mask(reply, self.shape)
        except client.Malformed as error:
            return f"malformed: {error}"
        if self.mask is not None and (wrong := np.count_nonzero(mask != self.mask)):
            return f"wrong: differs from the first answer in {counted(wrong, 'pixel')}"
        self.replies.add(reply.body)
        return ""


@dataclass(frozen=True)
class Sample:
    """One answer: seconds waited, the server's stages in ms, what was wrong with it if anything."""

    seconds: float
    stages: dict[str, float]
    fault: str = ""


@dataclass(frozen=True)
class Window:
    """The samples of one stretch of load, and how many seconds it took until the last was there."""

    samples: list[Sample]
    seconds: float


def ask(url: str, question: Question, due: float, timeout: float) -> Sample:
    """Asks now; the time counts from `due` on time.perf_counter's clock."""
    try:
        reply = client.ask(url, "/predict", question.body, timeout)
    except client.Unanswered as error:
        return Sample(time.perf_counter() - due, {}, str(error))
    seconds = time.perf_counter() - due
    return Sample(seconds, reply.stages, question.fault(reply))


def closed(
    url: str, questions: list[Question], clients: int, seconds: float, timeout: float
) -> Window:
    """`clients` ask without pause for `seconds`, each at least once; waits for the last answer."""
    end = time.perf_counter() + seconds

    def one_client(number: int, keep: Callable[[Sample], None]) -> None:
        for question in itertools.islice(itertools.cycle(questions), number, None):
            start = time.perf_counter()
            keep(ask(url, question, start, timeout))
            if time.perf_counter() >= end:
                return

    return together(one_client, clients)


def open_loop(
    url: str, questions: list[Question], rate: float, seconds: float, timeout: float
) -> Window:
    """Questions at `rate` a second for `seconds`, evenly spaced; waits for the last answer."""
    count = max(1, round(rate * seconds))
    start = time.perf_counter() + 0.05
    numbers = itertools.count()  # its next() is atomic

    def one_client(_: int, keep: Callable[[Sample], None]) -> None:
        while (number := next(numbers)) < count:
            due = start + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            keep(ask(url, questions[number % len(questions)], due, timeout))

    return together(one_client, min(IN_FLIGHT, count))


def together(run: Callable[[int, Callable[[Sample], None]], None], clients: int) -> Window:
    """Runs `run(number, keep)` in `clients` threads; everything they keep is the window."""
    samples: list[Sample] = []  # append is atomic
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(run, number, samples.append) for number in range(clients)]
        for client_run in running:
            client_run.result()  # a mistake in here must not look like an idle client
    return Window(samples, time.perf_counter() - start)
