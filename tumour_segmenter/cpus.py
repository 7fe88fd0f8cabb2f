"""How many CPUs this process may use, which in a container is not how many the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """Return the CPUs this process may use, at least 1.

    They are those of its affinity (`taskset`, cpusets), cut by the CPU quota of its control group
    (containers, systemd). A quota of a CPU and a half counts as 1: more threads than the quota
    feeds are paused together. `root` is where /proc and /sys are looked for.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min([cpus, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas that hold for this process, of its groups and of those above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: one file, "QUOTA PERIOD" or "max PERIOD"
            mount, names = mounts, ["cpu.max"]
        elif "cpu" in controllers.split(","):  # version 1: a file for each
            mount, names = mounts / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = mount / path.lstrip("/")
        # Inside a container the path may be the host's, which does not exist here: go up.
        for folder in [group, *group.parents]:
            if not folder.is_relative_to(mount):
                break
            try:
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                if quota.isdigit() and int(period):  # not "max", not -1
                    yield int(quota) / int(period)
            except (OSError, ValueError):
                continue
