"""What both benchmarks need: an error for the caller, files that appear whole, percentiles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class UsageError(Exception):
    """The caller can mend it: its message is the one line they see, the exit code is 2."""


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest measured value that at least `q` percent (0..100) of `values` do not exceed.

    Nearest rank, never interpolated: a latency that is reported was really waited for.
    """
    return float(np.percentile(values, q, method="inverted_cdf"))


def prepare(path: Path) -> None:
    """Makes sure now that `path` can be written, rather than after minutes of measuring.

    Raises UsageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise UsageError(f"cannot write {path}: it is a folder or its folder is read-only")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def write_whole(path: Path, text: str) -> None:
    """Writes beside `path`, then renames: a reader, or a crash, never meets half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
