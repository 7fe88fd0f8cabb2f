"""What must be the same in all slices of a series, for one SUV and one geometry follow from it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, timedelta

from pydicom.dataset import Dataset

from .errors import ScanError, tag, told
from .times import has_offset, parse_date, parse_datetime, parse_time, text_of

SAME = 1e-4  # of a number, by which rounding may change it
A_SECOND = timedelta(seconds=1)
ROUNDED = 5e-4  # mm, or of a direction cosine: so may rounding to three decimals
Reader = Callable[[Dataset], Dataset]


def check(
    headers: Sequence[Dataset],
    keywords: Sequence[str],
    options: dict[str, str] | None = None,
    inside: Reader = lambda header: header,
) -> None:
    """Raise `ScanError` where the slices differ in one of the elements, but for rounding and form.

    options: of a keyword the option that decides; inside: the data set of a header that holds them.
    """
    for keyword in keywords:
        texts = [text_of(inside(header), keyword) for header in headers]
        check_texts(tag(keyword), keyword, texts, (options or {}).get(keyword))


def check_texts(name: str, kind: str, texts: Sequence[str], option: str | None = None) -> None:
    """Raise `ScanError` where the texts of an element differ, one of each slice.

    kind: what `same` goes by; option: that decides.
    """
    for other in texts[1:]:
        if not same(kind, texts[0], other):
            values = " and ".join(told(text) if text else "missing" for text in (texts[0], other))
            remedy = f"; give {option}" if option else ""
            raise ScanError(f"the slices differ in {name}: {values}{remedy}")


def check_numbers(name: str, values: Sequence[tuple[float, ...]]) -> None:
    """Raise `ScanError` where the numbers of an element differ by more than rounding may."""
    first = values[0]
    for other in values[1:]:
        pairs = zip(first, other, strict=False)
        close = (math.isclose(*pair, rel_tol=SAME, abs_tol=ROUNDED) for pair in pairs)
        if len(first) != len(other) or not all(close):
            texts = ("\\".join(f"{v:.8g}" for v in one) or "missing" for one in (first, other))
            raise ScanError(f"the slices differ in {name}: {' and '.join(texts)}")


def same(keyword: str, one: str, other: str) -> bool:
    """Return whether two texts of an element mean the same; rounding and form are no difference."""
    if one.upper() == other.upper():
        return True
    if keyword.endswith("DateTime"):
        # A parser of times would take 2024 for 20:24, so each kind has its own.
        first, second = (parse_datetime(text, UTC) for text in (one, other))
        return first is not None and first == second and has_offset(one) == has_offset(other)
    if keyword.endswith("Date"):
        return parse_date(one) is not None and parse_date(one) == parse_date(other)
    if keyword.endswith("Time"):
        clocks = parse_time(one), parse_time(other)
        return None not in clocks and abs(clocks[0] - clocks[1]) < A_SECOND
    if keyword == "CorrectedImage":  # a list, in any order
        return sorted(re.findall(r"\w+", one.upper())) == sorted(re.findall(r"\w+", other.upper()))
    try:
        return math.isclose(float(one), float(other), rel_tol=SAME)
    except ValueError:
        return False
