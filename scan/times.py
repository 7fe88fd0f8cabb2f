"""DICOM dates and times: DA, TM and DT, with fractions, offsets and the old colons."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from .errors import ScanError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DATE = re.compile(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})")
TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:(\.\d{1,6})\d*)?)?)?")
YEARS = range(1900, 2200)  # others are nobody's, and some cannot be reckoned with
OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})$")


def parse_date(text: str) -> datetime | None:
    """Parse a DA such as 20201217 (or 2020.12.17); None where it is none."""
    if not (found := DATE.fullmatch(text.strip())):
        return None
    try:
        day = datetime(*map(int, found.groups()))
    except ValueError:
        return None
    return day if day.year in YEARS else None


def parse_time(text: str) -> timedelta | None:
    """Parse a TM such as 104829.25, 1048 or 10:48:29 to the time since midnight."""
    if not (found := TIME.fullmatch(text.strip())):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds + float(found[4] or 0))


def parse_datetime(text: str, zone: timezone | None = None) -> datetime | None:
    """Parse a DT such as 20201217104829.25+0100 to local time, without a zone.

    zone: that of the data set's other times (its TimezoneOffsetFromUTC). A DT with an offset is
    brought to it; where it is not known, all clocks of the data set are taken to agree. None where
    it is no DT, or has a date alone, which is no moment.
    """
    text = text.strip()
    offset = OFFSET.search(text) if len(text) > 8 else None
    if offset:
        text = text[: offset.start()]
    day, clock = parse_date(text[:8]), parse_time(text[8:])
    own = _zone(offset) if offset else None
    if day is None or clock is None or (offset and own is None):
        return None
    moment = day + clock
    if own and zone:
        moment = moment.replace(tzinfo=own).astimezone(zone).replace(tzinfo=None)
    return moment


def has_offset(text: str) -> bool:
    """Return whether a DT names its offset from UTC."""
    return len(text.strip()) > 8 and OFFSET.search(text.strip()) is not None


def zone_of(header: Dataset) -> timezone | None:
    """Return the time zone of the data set's dates and times, if it names one."""
    found = OFFSET.match(text_of(header, "TimezoneOffsetFromUTC"))
    return _zone(found) if found else None


def _zone(found: re.Match[str]) -> timezone | None:
    minutes = 60 * int(found[2]) + int(found[3])
    if minutes >= 24 * 60:
        return None
    return timezone(timedelta(minutes=minutes if found[1] == "+" else -minutes))


def text_of(header: Dataset, keyword: str) -> str:
    """Return the element's text, "" where it is missing or empty."""
    value = header.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def joined(header: Dataset, date: str, time: str) -> datetime | None:
    """Return the moment that two elements, a DA and a TM, name; None where one is missing."""
    day, clock = parse_date(text_of(header, date)), parse_time(text_of(header, time))
    return None if day is None or clock is None else day + clock


def parse_given(text: str) -> datetime | timedelta:
    """Parse what a person types: 10:05, 10:05:30, 100530, "2020-12-17 10:05" or a DICOM DT.

    Returns the time since midnight where no date is given. Raises `ScanError`.
    """
    text = text.strip()
    if len(text) > 12 and has_offset(text):
        raise ScanError(f"{text!r} has an offset from UTC; write the scanner's own clock")
    day, _, clock = text.replace("T", " ").partition(" ")
    if (date := parse_date(day)) and clock and (time := parse_time(clock)) is not None:
        return date + time
    if len(text) >= 12 and (moment := parse_datetime(text)):
        return moment
    if len(text) >= 4 and (time := parse_time(text)) is not None:
        return time
    raise ScanError(f"{text!r} is no time; write 10:05, 10:05:30 or 2020-12-17 10:05:30")
