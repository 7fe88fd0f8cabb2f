"""Windows of one load, repeated until they agree, and the row of the table that they make."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from benchmarks.asking.load import Window
from benchmarks.running.statistics import percentile

# Medians of two windows that differ by less are taken for the same. Two quiet runs on a shared
# virtual machine differ by about this much.
SAME = 0.10


class Deadline:
    """Seconds left of a run's time, so that repeats end before it does."""

    def __init__(self, seconds: float) -> None:
        self.end = time.perf_counter() + seconds

    def left(self) -> float:
        return self.end - time.perf_counter()


def settle(measure: Callable[[], Window], most: int, spare_s: float) -> list[Window]:
    """Windows of one load, at least two: until the last two agree, but not more than `most`.

    `spare_s` are the seconds until it must be content with two. `settled` tells whether they agree.
    """
    deadline = Deadline(spare_s)
    windows = [measure(), measure()]
    while not settled(windows) and len(windows) < most and deadline.left() > 0:
        windows.append(measure())
    return windows


def settled(windows: list[Window]) -> bool:
    return len(windows) < 2 or spread(windows[-2:]) <= SAME


def spread(windows: list[Window]) -> float:
    """How far apart the windows' medians are, as a share of the smallest."""
    medians = [median(answer.waited for answer in window.answers) for window in windows]
    return max(medians) / min(medians) - 1


def row(windows: list[Window], **load: object) -> dict[str, object]:
    """The row as JSON values: `load`, then times in ms, images a second, stages in ms.

    The last two windows count if they agree, else all; the maximum and the faults are those of all
    windows, as a budget is for every image. `noise` is the spread of the windows that count.
    """
    used = windows[-2:] if settled(windows) else windows
    answers = [answer for window in used for answer in window.answers]
    times = [1000 * answer.waited for answer in answers]
    everything = [answer for window in windows for answer in window.answers]
    faults = [answer.fault for answer in everything if answer.fault]
    good = [answer for answer in answers if not answer.fault]
    stages = {}
    for name in dict.fromkeys(name for answer in good for name in answer.stages):
        stages[name] = round(median(a.stages[name] for a in good if name in a.stages), 2)
    if stages:
        rest = median(1000 * a.waited - sum(a.stages.values()) for a in good if a.stages)
        stages["rest"] = round(rest, 2)
    return load | {
        "images": len(answers),
        **{f"p{q}_ms": round(percentile(times, q), 2) for q in (50, 90, 95, 99)},
        "max_ms": round(1000 * max(answer.waited for answer in everything), 2),
        "images_per_s": round(len(good) / sum(window.seconds for window in used), 2),
        "stages_ms": stages,
        "noise": round(spread(used), 3),
        "settled": settled(windows),
        "faults": len(faults),
        "fault": faults[0] if faults else "",
    }
