"""How a command ends: its exit code, one line for what went wrong, and output nobody reads."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from tumour_segmenter import files
from tumour_segmenter.errors import UsageError


def exit_code(
    work: Callable[[], int],
    *errors: type[Exception],
    name: str = "error",
    interrupted: Callable[[], str] = lambda: "",
) -> int:
    """Do the work of a command and return its exit code; what goes wrong is one line.

    2 for `UsageError` and `errors`, 1 for any other `OSError`, such as a full disk, 130 for an
    interruption. name: what the line begins with; interrupted: returns the line for an
    interruption, empty for none.
    """
    ignore_closed_output()
    wrong = (UsageError, *errors)
    try:
        return work()
    except (*wrong, OSError) as error:
        why = files.reason(error) if isinstance(error, OSError) else error
        print(f"{name}: {why}", file=sys.stderr)
        return 2 if isinstance(error, wrong) else 1
    except KeyboardInterrupt:
        if line := interrupted():
            print(line, file=sys.stderr)
        return 130


def ignore_closed_output() -> None:
    """Let this process finish its work where its output is read no more, as by `| head`.

    What is printed then goes nowhere, in place of a BrokenPipeError in the middle of the work.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed from the start, as by `2>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
            continue
        if stream is not getattr(sys, f"__{name}__"):
            continue  # replaced before, by this function or a test
        raw = _Output(stream.fileno(), "w", closefd=False)
        unbuffered = isinstance(stream.buffer, io.RawIOBase)  # as PYTHONUNBUFFERED wants it
        output = io.TextIOWrapper(
            raw if unbuffered else io.BufferedWriter(raw),
            stream.encoding,
            stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, output)


class _Output(io.FileIO):
    """A file that takes everything, also when its reader is gone."""

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
