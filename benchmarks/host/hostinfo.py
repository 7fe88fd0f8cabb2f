"""What a number in a results file depends on: the machine, the versions, the commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path

from tumour_segmenter.cpus import available_cpus

# Those that decide which kernels onnxruntime runs.
FLAGS = [
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
]
PACKAGES = ["onnxruntime", "numpy", "pillow", "flask", "gunicorn", "gevent"]


def facts() -> dict[str, object]:
    """Facts as JSON values; what cannot be found out is None."""
    cpuinfo = read("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return {
        "cpu": name[1] if name else platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in known],
        "cpus": os.cpu_count(),
        "cpus_by_affinity": len(os.sched_getaffinity(0)),
        "cpus_by_affinity_and_quota": available_cpus(),
        "memory_gb": round(int(memory[1]) * 1024 / 1e9, 1) if memory else None,
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "commit": commit(),
    }


def busy_share(seconds: float) -> float:
    """Share, 0.0 to 1.0, of this process's CPUs that is used while this process sleeps.

    0.0 where the kernel does not say.
    """
    before = _ticks()
    time.sleep(seconds)
    idle, total = (now - then for now, then in zip(_ticks(), before, strict=True))
    return round(1 - idle / total, 3) if total > 0 else 0.0


def _ticks() -> tuple[int, int]:
    """(idle, all) ticks of the CPUs that this process may use; time that a host stole is used."""
    mine = os.sched_getaffinity(0)
    idle = total = 0
    for line in read("/proc/stat").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in mine:
            ticks = list(map(int, fields[:8]))  # guests, after these, are counted in the first two
            idle += sum(ticks[3:5])
            total += sum(ticks)
    return idle, total


def hardware(host: dict[str, object]) -> str:
    """A short name for file names: `intel-xeon-2cpu`."""
    name = re.sub(r"\((R|TM)\)|@.*|\bCPU\b|\bProcessor\b", " ", str(host["cpu"]), flags=re.I)
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{slug}-{host['cpus_by_affinity']}cpu"


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The project's commit, with a `+` if files that git knows were changed."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
