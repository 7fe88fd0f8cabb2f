"""The verdict on a measured run: what a team must not deploy."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.running.program import read_text
from benchmarks.timing.windows import SAME
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import counted

# Under a millisecond the clock, the loopback and the load generator are what is measured.
CLOCK_MS = 1.0
BUSY = 0.15  # of this process's CPUs used by other programs: times are theirs as well


@dataclass
class Verdict:
    """One line for each reason: of `failed` checks, and of those that noise makes `unsure`."""

    failed: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    noise: str = ""

    def __str__(self) -> str:
        if self.failed:
            return "check failed"
        if self.unsure:
            return f"inconclusive, run again when idle: {self.noise}"
        return "check passed: every image was right and in time"


def verdict(result: dict, earlier: dict | None = None) -> Verdict:
    """Judge a run by its own limits, and by an `earlier` run that it must not be slower than.

    A wrong answer fails whatever the noise. A time over its limit fails on a machine that was
    idle, or where the median is over it and settled; otherwise it says nothing.
    """
    busy = result["busy_share"] > BUSY
    noisy = busy or bool(result["noisy"])
    found = Verdict(noise=", ".join(noise(result)))
    for row in rows(result):
        limit_ms = 1000 * limit_s(row, result)
        if row["faults"]:
            found.failed.append(f"{named(row)}: {row['faults']} faults, such as: {row['fault']}")
        if row["max_ms"] > limit_ms:
            sure = not noisy or (not busy and row["settled"] and row["p50_ms"] > limit_ms)
            (found.failed if sure else found.unsure).append(
                f"{named(row)}: an image took {row['max_ms']:.0f} ms, the limit is {limit_ms:.0f}"
            )
    single = {"over-size": [result["over_size"]["ms"]]}
    if result["cold_start"]:
        single["first answer"] = result["cold_start"]["first_answer_ms"]
    limit_ms = 1000 * result["budget_s"]
    for name, times in single.items():
        if max(times) > limit_ms:
            line = f"{name}: {max(times):.0f} ms, the limit is {limit_ms:.0f}"
            (found.unsure if noisy else found.failed).append(line)
    if earlier:
        (found.unsure if busy else found.failed).extend(slower(result, earlier))
    return found


def noise(result: dict) -> list[str]:
    """What made the machine noisy, empty for a quiet one."""
    found = []
    if result["busy_share"] > BUSY:
        found.append(f"other programs used {result['busy_share']:.0%} of its CPUs before or after")
    if result["noisy"]:
        found.append(
            f"{counted(len(result['noisy']), 'load')} did not settle, such as {result['noisy'][0]}"
        )
    return found


def limit_s(row: dict, result: dict) -> float:
    """Seconds that an image of the row may take: alone, or with others at once."""
    return result["budget_s" if row.get("clients") == 1 else "budget_at_once_s"]


def slower(result: dict, earlier: dict) -> list[str]:
    """A line for each load whose median was better in `earlier` by more than both runs' noise."""
    lines = []
    before = {(row["size"], row["clients"]): row for row in earlier["closed"]}
    for row in result["closed"]:
        old = before.get((row["size"], row["clients"]))
        if not old:
            continue
        noise = max(SAME, old["noise"], row["noise"])
        more = row["p50_ms"] - old["p50_ms"]
        if more > max(CLOCK_MS, noise * old["p50_ms"]):
            lines.append(
                f"{named(row)}: p50 was {old['p50_ms']:.1f} ms, is {row['p50_ms']:.1f} ms "
                f"({more / old['p50_ms']:+.0%}, noise {noise:.0%})"
            )
    return lines


def comparable(result: dict, earlier: dict) -> bool:
    """Whether both runs had the same CPUs, so that a difference is the software's."""
    return result["limits"] == earlier["limits"] and all(
        result["host"][fact] == earlier["host"][fact] for fact in ("cpu", "flags", "cpus")
    )


def rows(result: dict) -> list[dict]:
    """Every row of a result that holds single images' times."""
    mixed = [result["memory"]["load"]] if result["memory"] else []
    return [*result["closed"], *result["open"], *mixed]


def named(row: dict) -> str:
    if "arrivals_per_s" in row:
        return f"{row['size']}, {row['arrivals_per_s']:g} arrivals a second"
    return f"{row['size']}, {counted(row['clients'], 'client')}"


def read(path: Path) -> dict:
    """An earlier result; UsageError if the file is none."""
    try:
        result = json.loads(read_text(path))
        for row in result["closed"]:
            row["size"], row["clients"], row["p50_ms"] * row["noise"]
        result["limits"], [result["host"][fact] for fact in ("cpu", "flags", "cpus")]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no result of benchmarks/latency.py") from error
    return result
