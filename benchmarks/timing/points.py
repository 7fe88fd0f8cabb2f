"""One row of the table: a load, repeated until it settles, and its percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from benchmarks.asking.load import Window
from benchmarks.common import percentile

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
    medians = [median(sample.seconds for sample in window.samples) for window in windows]
    return max(medians) / min(medians) - 1


def row(windows: list[Window], **load: object) -> dict[str, object]:
    """The row as JSON values: `load`, then times in ms, images a second, stages in ms.

    The last two windows count if they agree, else all; the maximum and the faults are those of all
    windows, as a budget is for every image. `noise` is the spread of the windows that count.
    """
    used = windows[-2:] if settled(windows) else windows
    samples = [sample for window in used for sample in window.samples]
    times = [1000 * sample.seconds for sample in samples]
    everything = [sample for window in windows for sample in window.samples]
    faults = [sample.fault for sample in everything if sample.fault]
    good = [sample for sample in samples if not sample.fault]
    stages = {}
    for name in dict.fromkeys(name for sample in good for name in sample.stages):
        stages[name] = round(median(s.stages[name] for s in good if name in s.stages), 2)
    if stages:
        rest = median(1000 * s.seconds - sum(s.stages.values()) for s in good if s.stages)
        stages["rest"] = round(rest, 2)
    return load | {
        "images": len(samples),
        **{f"p{q}_ms": round(percentile(times, q), 2) for q in (50, 90, 95, 99)},
        "max_ms": round(1000 * max(sample.seconds for sample in everything), 2),
        "images_per_s": round(len(good) / sum(window.seconds for window in used), 2),
        "stages_ms": stages,
        "noise": round(spread(used), 3),
        "settled": settled(windows),
        "faults": len(faults),
        "fault": faults[0] if faults else "",
    }
