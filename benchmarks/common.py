"""What several benchmarks need: percentiles, intervals, paths to write to, how they end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tumour_segmenter import files
from tumour_segmenter.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
TRACKED, UNTRACKED = ROOT / "benchmarks" / "results", ROOT / "runs" / "benchmarks"
RESAMPLES = 10_000


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest measured value that at least `q` percent (0..100) of `values` do not exceed.

    Nearest rank, never interpolated: a latency that is reported was really waited for.
    """
    return float(np.percentile(values, q, method="inverted_cdf"))


def interval(
    values: np.ndarray, of: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of sum(values) / sum(of), both float (images,), by resampling images.

    Without `of` it is that of the mean. NaN where there is nothing to resample.
    """
    values = np.asarray(values, float)
    of = np.ones_like(values) if of is None else np.asarray(of, float)
    if not of.sum():
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    chosen = random.integers(len(values), size=(RESAMPLES, len(values)))
    sums, totals = values[chosen].sum(axis=1), of[chosen].sum(axis=1)
    low, high = np.percentile(sums[totals > 0] / totals[totals > 0], [2.5, 97.5])
    return float(low), float(high)


def read_text(path: Path) -> str:
    """The file's text; UsageError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def prepare(path: Path) -> None:
    """Makes sure now that `path` can be written, rather than after minutes of measuring.

    Raises UsageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise UsageError(f"cannot write {path}: it is a folder or its folder is read-only")
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"cannot write {path}: {error.filename} is a file, no folder") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def positive(text: str) -> float:
    """The number in `text` for argparse, over 0 and finite."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be over 0 and finite, not {text}")
    return number


def add_results_options(parser: argparse.ArgumentParser) -> None:
    """`--out DIR` and `--save`: where a measurement's files go."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--out", type=Path, default=UNTRACKED, metavar="DIR", help="for files, runs/benchmarks"
    )
    where.add_argument(
        "--save", action="store_true", help="files into benchmarks/results, which git tracks"
    )


def results_folder(args: argparse.Namespace) -> Path:
    """The folder that they choose, made and writable. Raises UsageError."""
    folder = TRACKED if args.save else args.out
    prepare(folder / "result")
    return folder


def exit_code(name: str, work: Callable[[], int], *errors: type[Exception]) -> int:
    """Do the work of the benchmark `name` and return its exit code; what goes wrong is one line.

    errors: what ends it with code 2, besides wrong usage and a file that cannot be written.
    """
    try:
        return work()
    except (UsageError, *errors) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # of what is written: a full disk, a folder that went away
        print(f"{name}: {files.reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted, nothing written", file=sys.stderr)
        return 130
