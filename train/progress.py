"""How far something is: a bar in a terminal, a plain line now and then in a file."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar

from tqdm import tqdm

LINE_EVERY = 30.0  # seconds between two lines in a file
BAR = "{l_bar}{bar}| {n:.4g}/{total:.4g} {unit} [{elapsed}<{remaining}{postfix}]"
T = TypeVar("T")


class Progress:
    """So much of `total` units is done, with figures and the remaining time; to standard error."""

    def __init__(self, what: str, total: float, unit: str, done: float = 0.0) -> None:
        self.bar = tqdm(
            desc=what, total=total, unit=unit, initial=done, leave=False, disable=None,
            bar_format=BAR, dynamic_ncols=True,
        )  # fmt: skip
        self.what, self.total, self.unit, self.first = what, total, unit, done
        self.since, self.line = time.monotonic(), float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def to(self, done: float, **figures: str) -> None:
        """So much is done in all; figures: what to show beside it, such as loss="0.312"."""
        now = time.monotonic()
        if not self.bar.disable:
            self.bar.set_postfix(figures, refresh=False)
            self.bar.update(done - self.bar.n)
        elif now > self.line + LINE_EVERY:
            self.line = now
            parts = [f"{self.what}: {done:.4g} of {self.total:.4g} {self.unit}"]
            parts += [f"{name} {value}" for name, value in figures.items()]
            if done > self.first:
                left = (now - self.since) / (done - self.first) * (self.total - done)
                parts.append(f"about {left / 60:.1f} min left")
            print(", ".join(parts), file=sys.stderr, flush=True)


def over(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """The items, each of which is one unit and done when the next is asked for."""
    with Progress(what, len(items), unit) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress.to(done)
