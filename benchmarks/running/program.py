"""What all programs here share: how they end, what they read, and where their files go."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tumour_segmenter.command import exit_code
from tumour_segmenter.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
TRACKED, UNTRACKED = ROOT / "benchmarks" / "results", ROOT / "runs" / "benchmarks"


class WrongAnswer(Exception):
    """The server does not do its job, so its speed means nothing."""


def main(
    name: str,
    parse: Callable[[list[str] | None], argparse.Namespace],
    run: Callable[[argparse.Namespace], int],
    argv: list[str] | None = None,
) -> int:
    """Return the exit code of `run(parse(argv))`; what goes wrong is one line on standard error.

    1: a server answers wrongly; 2: wrong usage, no server, or a file that cannot be written;
    130: interrupted or terminated. Servers that were started are stopped in any case.
    """

    def work() -> int:
        args = parse(argv)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as tidily as Ctrl-C
        try:
            return run(args)
        except WrongAnswer as error:
            print(f"{name}: not measured, as an answer is wrong: {error}", file=sys.stderr)
            return 1

    line = f"{name}: interrupted, nothing written"
    return exit_code(work, OSError, name=name, interrupted=lambda: line)


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


def whole(text: str) -> int:
    """The whole number in `text` for argparse, over 0."""
    number = positive(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text}")
    return int(number)


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


def now() -> str:
    """The local time to the minute, as it stands in results and their names."""
    return f"{datetime.now():%Y-%m-%d-%H%M}"
