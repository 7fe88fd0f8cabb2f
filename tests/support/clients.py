"""Clients that go on asking a server, to see what they lose while something happens to it."""

from itertools import cycle

import numpy as np

from benchmarks.asking.load import Load
from benchmarks.asking.question import Question
from tests.support.serving import wait
from tests.support.slow_model import lasting
from tumour_segmenter import client

SHORT = lasting(235)  # some 20 ms
MASK = np.where(SHORT < 50, np.uint8(255), np.uint8(0))


class Clients(Load):
    """`with Clients(url) as clients:` three ask for the mask of SHORT until the block ends.

    Forty times a second: without pause they would only take the time of other tests.
    """

    def __init__(self, url: str) -> None:
        question = Question(client.request_body(SHORT), SHORT.shape, MASK)
        super().__init__(url, cycle([question]), 3, rate=40, timeout=20)

    def wait_for(self, count: int) -> None:
        """Wait until there are so many more answers."""
        before = len(self.answers)
        wait(lambda: len(self.answers) >= before + count)

    def faults(self) -> list[str]:
        """Return what was wrong with each answer that was not the right mask."""
        return [answer.fault for answer in self.answers if answer.kind != "mask"]
