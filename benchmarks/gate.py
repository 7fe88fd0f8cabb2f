"""The verdict on a measured run: what a team must not deploy."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.cases import read_text
from benchmarks.common import UsageError
from benchmarks.points import SAME

# Under a millisecond the clock, the loopback and the load generator are what is measured.
CLOCK_MS = 1.0


def failures(result: dict, budget_s: float, earlier: dict | None = None) -> list[str]:
    """One line for each reason to fail; none means that the gate is open."""
    lines = []
    for row in rows(result):
        if row["faults"]:
            lines.append(f"{named(row)}: {row['faults']} faults, such as: {row['fault']}")
        if row["max_ms"] > 1000 * budget_s:
            lines.append(
                f"{named(row)}: an image took {row['max_ms']:.0f} ms, "
                f"the budget is {1000 * budget_s:.0f} ms"
            )
    single = {"over-size": [result["over_size"]["ms"]]}
    if result["cold_start"]:
        single["first answer"] = result["cold_start"]["first_answer_ms"]
    for name, times in single.items():
        if max(times) > 1000 * budget_s:
            lines.append(f"{name}: {max(times):.0f} ms, the budget is {1000 * budget_s:.0f} ms")
    return lines + (slower(result, earlier) if earlier else [])


def slower(result: dict, earlier: dict) -> list[str]:
    """One line for each load whose median was better in `earlier` by more than both runs' noise."""
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
    return f"{row['size']}, {row['clients']} client{'s' * (row['clients'] > 1)}"


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
