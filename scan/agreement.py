"""What must be the same in all slices of a series, for one SUV and one geometry follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC

from pydicom.dataset import Dataset

from .errors import ScanError, tag, told
from .times import has_offset, parse_date, parse_datetime, parse_time, text_of

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
            if not same(keyword, first, other):
                values = " and ".join(_told(keyword, text) for text in (first, other))
                remedy = f"; give {options[keyword]}" if keyword in (options or {}) else ""
                raise ScanError(f"the slices differ in {tag(keyword)}: {values}{remedy}")


def same(keyword: str, one: str, other: str) -> bool:
    """Return whether two texts of an element mean the same; rounding and form are no difference."""
    if one.upper() == other.upper():
        return True
    if keyword.endswith("DateTime"):
        # A parser of times would take 2024 for 20:24, so each kind has its own.
        first, second = (parse_datetime(text, UTC) for text in (one, other))
        return first is not None and first == second and has_offset(one) == has_offset(other)
    if keyword.endswith(("Date", "Time")):
        parse = parse_date if keyword.endswith("Date") else parse_time
        return parse(one) is not None and parse(one) == parse(other)
    try:
        return math.isclose(float(one), float(other), rel_tol=SAME)
    except ValueError:
        return False


def _told(keyword: str, text: str) -> str:
    """The value, where it is of a kind that cannot name a patient."""
    if not text:
        return "missing"
    plain = text.replace(".", "").replace(":", "").replace("+", "").replace("-", "")
    return text if plain.isdigit() else told(text)
