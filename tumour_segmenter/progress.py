"""How far long work is: tqdm's bar on a terminal, and without one a line every half minute."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30
LINE = "{desc}: {n:.4g} of {total:.4g} {unit}, {remaining} left{postfix}"


class _Lines:
    """A file in which what tqdm draws over itself becomes lines."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if line := text.strip():
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()


def bar(
    iterable: Iterable | None = None,
    *,
    total: float | None = None,
    desc: str,
    unit: str,
    initial: float = 0,
) -> tqdm:
    """Return tqdm over `iterable`, or for `update` by hand, on standard error.

    desc: what is done; unit: a plural. Figures go beside it with `set_postfix`. It is gone once it
    is closed; lines that are to stay are printed by `say`.
    """
    common = {"total": total, "desc": desc, "unit": f" {unit}", "initial": initial, "leave": False}
    common |= {"miniters": 0}  # time alone decides: an update by 0 may bring news
    if sys.stderr.isatty():
        return tqdm(iterable, **common, dynamic_ncols=True)
    seconds = SECONDS_BETWEEN_LINES
    return tqdm(
        iterable,
        **common | {"unit": unit},
        file=_Lines(sys.stderr),
        bar_format=LINE,
        mininterval=seconds,
        maxinterval=seconds,
        delay=1,  # no line for what is done at once
    )


def describe(shown: tqdm, desc: str) -> None:
    """Say what a bar of `bar` is at from now on; without a terminal, in its next line."""
    shown.set_description_str(desc, refresh=sys.stderr.isatty())


def say(line: str) -> None:
    """Print a line on standard error that stays, above a bar that is shown there."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
