"""What must be the same in all slices of a series, for one SUV and one geometry follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset

from .errors import ScanError, tag, told
from .times import parse_datetime, parse_time, text_of

SAME = 1e-4  # of a number, by which rounding may change it
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
        first = text_of(inside(headers[0]), keyword)
        for header in headers[1:]:
            other = text_of(inside(header), keyword)
            same = _same_moment if keyword.endswith(("Time", "Date")) else _same
            if not same(first, other):
                values = " and ".join(_told(keyword, text) for text in (first, other))
                remedy = f"; give {options[keyword]}" if keyword in (options or {}) else ""
                raise ScanError(f"the slices differ in {tag(keyword)}: {values}{remedy}")


def _same(one: str, other: str) -> bool:
    if one.upper() == other.upper():
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=SAME)
    except ValueError:
        return False


def _same_moment(one: str, other: str) -> bool:
    parsed = [(parse(one), parse(other)) for parse in (parse_time, parse_datetime)]
    return one == other or any(first is not None and first == second for first, second in parsed)


def _told(keyword: str, text: str) -> str:
    """The value, where it is of a kind that cannot name a patient."""
    if not text:
        return "missing"
    plain = text.replace(".", "").replace(":", "").replace("+", "").replace("-", "")
    return text if plain.isdigit() else told(text)
