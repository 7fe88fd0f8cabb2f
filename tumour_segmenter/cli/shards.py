"""A share of the work by name, so that N processes anywhere do all of it once.

A name belongs to one shard, whatever the machine and whatever other names there are: no process
needs to know of the others.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from tumour_segmenter.errors import UsageError

# Kubernetes sets the first in Indexed Jobs, Slurm the second in array jobs.
INDEX_VARIABLES = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID")
SLURM_LAST = "SLURM_ARRAY_TASK_MAX"
HELP = (
    "do the share I of N, I from 0 to N-1; auto/N takes I from JOB_COMPLETION_INDEX (Kubernetes) "
    "or SLURM_ARRAY_TASK_ID (Slurm, --array=0-...)"
)


@dataclass(frozen=True)
class Shard:
    """Share number `index`, 0 to `count` - 1."""

    index: int
    count: int

    def takes(self, name: str) -> bool:
        """Return whether `name`, such as a path relative to the source, belongs to this shard.

        The way in which accented letters are encoded, which differs between systems, makes no
        difference.
        """
        encoded = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
        number = int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big")
        return number % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse(text: str, environ: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard that `text`, I/N or auto/N, means. Raises `UsageError`."""
    if not (parts := re.fullmatch(r"(auto|[0-9]{1,6})/([0-9]{1,6})", text)):
        raise UsageError(f"--shard {text!r} is not I/N, such as 0/10, and not auto/N")
    index, count, origin = parts[1], int(parts[2]), f"--shard {text}"
    if index == "auto":
        name = next((name for name in INDEX_VARIABLES if environ.get(name)), None)
        if not name:
            raise UsageError(
                f"{origin}: neither {' nor '.join(INDEX_VARIABLES)} is set; run it in an Indexed "
                "Job or an array job, or write --shard I/N"
            )
        index = environ[name]
        origin += f" with {name}={index}"
        if not re.fullmatch(r"[0-9]{1,6}", index):
            raise UsageError(f"{origin}: this is not a whole number from 0")
        last = environ.get(SLURM_LAST, "") if name == INDEX_VARIABLES[1] else ""
        if last.isdigit() and int(last) >= count:
            raise UsageError(f"{origin} and {SLURM_LAST}={last}: submit with --array=0-{count - 1}")
    if not int(index) < count:
        raise UsageError(
            f"{origin}: I is a number from 0 to N-1" + (f", here 0 to {count - 1}" * (count > 0))
        )
    return Shard(int(index), count)
