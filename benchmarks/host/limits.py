"""Holds the server to the CPUs of a cheap machine: whole ones by affinity, parts by a quota."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tumour_segmenter.errors import UsageError

PERIOD = 100_000  # microseconds, the kernel's own default


@dataclass(frozen=True)
class Limits:
    """How a server is started: on `cores`, in the control group `group` if there is one.

    `description` is what held and what could not be done, for readers.
    """

    cores: frozenset[int]
    group: Path | None
    description: str

    def wrap(self, command: list[str]) -> list[str]:
        """`command` so that it is inside the group before its first instruction."""
        if not self.group:
            return command
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.group), *command]


@contextmanager
def limited(cpus: float | None) -> Iterator[Limits]:
    """Limits for a server that may use `cpus` CPUs, None for all; meanwhile this process, which
    makes the load, keeps to the cores that are left, if any are.

    Raises UsageError if there are not as many CPUs.
    """
    mine = os.sched_getaffinity(0)
    if cpus is None:
        yield Limits(frozenset(mine), None, f"all {len(mine)} CPUs, shared with the load generator")
        return
    whole = math.ceil(cpus)
    if not 0 < whole <= len(mine):
        raise UsageError(f"--cpus {cpus:g}: this process may use {len(mine)}")
    cores = frozenset(sorted(mine)[:whole])
    rest = mine - cores
    group = quota_group(cpus) if cpus < whole else None
    description = f"{whole} CPU by affinity" if whole == 1 else f"{whole} CPUs by affinity"
    if group:
        description += f", {cpus:g} of it by quota"
    elif cpus < whole:
        description += f"; a quota of {cpus:g} is not allowed here, so it had more than asked for"
    description += ", the load generator on others" if rest else ", shared with the load generator"
    try:
        if rest:
            os.sched_setaffinity(0, rest)
        yield Limits(cores, group, description)
    finally:
        os.sched_setaffinity(0, mine)
        if group:
            with suppress(OSError):
                group.rmdir()


def quota_group(cpus: float) -> Path | None:
    """A new control group below our own that gets `cpus` CPUs; None where that is not allowed."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):  # version 1
            mount = Path("/sys/fs/cgroup/cpu")
            values = {"cpu.cfs_period_us": PERIOD, "cpu.cfs_quota_us": int(cpus * PERIOD)}
        elif not controllers:  # version 2
            mount = Path("/sys/fs/cgroup")
            values = {"cpu.max": f"{int(cpus * PERIOD)} {PERIOD}"}
        else:
            continue
        group = mount / path.lstrip("/") / f"latency-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name, value in values.items():
                if not (group / name).exists():  # a group without the cpu controller
                    raise FileNotFoundError(name)
                (group / name).write_text(str(value))
            return group
        except OSError:
            group.rmdir()
    return None
