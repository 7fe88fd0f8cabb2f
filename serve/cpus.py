"""How many CPUs this process may use, which in a container is not how many the machine has, and
what they are good at."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

# Names in /proc/cpuinfo of instructions that multiply 8-bit numbers and add them up in 32 bits.
INT8_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "asimddp"}

X86 = {"x86_64", "amd64"}  # as Linux and Windows say


def available_cpus(root: Path = Path("/")) -> int:
    """Return the CPUs this process may use, at least 1.

    They are those of its affinity (`taskset`, cpusets), cut by the CPU quota of its control group
    (containers, systemd). A quota of a CPU and a half counts as 1: more threads than the quota
    feeds are paused together. `root` is where /proc and /sys are looked for.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min([cpus, *_quotas(root)])))


def saturates_int8(root: Path = Path("/")) -> bool:
    """Return whether 8-bit convolutions may overflow, which would change masks without a word.

    On x86 without instructions for dot products of 8-bit numbers, onnxruntime adds products up in
    16 bits ("Quantize ONNX models", its documentation, on AVX2). True as well where an x86 CPU's
    instructions are not known. `root` is where /proc is looked for.
    """
    try:
        instructions = (root / "proc/cpuinfo").read_text().split()
    except OSError:
        instructions = []
    return platform.machine().lower() in X86 and INT8_DOT_PRODUCTS.isdisjoint(instructions)


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
