"""Stored values -> SUV by body weight (g/mL), by the pseudocode of QIBA (RSNA).

Each function is one rule. A header is a pydicom `Dataset` of one slice; times are local to the
scanner. What is missing, or cannot be used, raises `ScanError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from . import agreement
from .errors import ScanError, tag, told
from .limits import LEAST_DOSE, MOST_DOSE, WEIGHTS
from .times import has_offset, joined, parse_date, parse_datetime, parse_time, text_of, zone_of

F18_HALF_LIFE = 6586.2  # seconds
ROUNDED = timedelta(minutes=1)  # by which two clocks of a scan may differ
EARLY = timedelta(minutes=30)  # from the start of a series to its first acquisition
BY_FACTOR = "the factor of --suv-factor"
LONGEST_UPTAKE = 10  # half-lives between injection and scan; more is a wrong date
PHILIPS, PHILIPS_SUV, PHILIPS_ACTIVITY = "Philips PET Private Group", 0x00, 0x09
GE, GE_SCAN_TIME = "GEMS_PETD_01", 0x0D
OPTION = {
    "PatientWeight": "--weight KG",
    "RadionuclideTotalDose": "--dose MBQ",
    "RadionuclideHalfLife": "--half-life SECONDS",
    "RadiopharmaceuticalStartTime": "--injection-time HH:MM:SS",
    "RadiopharmaceuticalStartDateTime": "--injection-time 'YYYY-MM-DD HH:MM:SS'",
    "SeriesTime": "--scan-time HH:MM:SS",
    "SeriesDate": "--scan-time 'YYYY-MM-DD HH:MM:SS'",
    "Units": "--suv-factor FACTOR",
}


@dataclass(frozen=True)
class Given:
    """What the caller supplies in place of header elements, None where the header is asked.

    weight: kg; dose: Bq at the time of injection; half_life: seconds; times: a moment, or the
    time since midnight of the day of the scan; suv_factor: SUV = stored value (with slope and
    intercept) × factor.
    """

    weight: float | None = None
    dose: float | None = None
    half_life: float | None = None
    injection_time: datetime | timedelta | None = None
    scan_time: datetime | timedelta | None = None
    suv_factor: float | None = None


@dataclass(frozen=True)
class Suv:
    """How SUV follows from values after slope and intercept: SUV = value × factor.

    rule: in words, for the report; the rest is what the rule used, None where it needed none.
    """

    factor: float
    units: str
    rule: str
    weight: float | None = None
    dose: float | None = None
    half_life: float | None = None
    injected: datetime | None = None
    scanned: datetime | None = None
    scanned_from: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def uptake_minutes(self) -> float | None:
        """Minutes from the injection to the start of the scan."""
        if self.injected is None or self.scanned is None:
            return None
        return (self.scanned - self.injected).total_seconds() / 60


def suv_of(headers: Sequence[Dataset], given: Given = Given()) -> Suv:
    """Return the rule for a series, `headers` of all its slices. Raises `ScanError`."""
    found = _rule(headers, given)
    return replace(found, warnings=(*found.warnings, *unused(found, given)))


def unused(suv: Suv, given: Given) -> list[str]:
    """Return a warning for each thing that the caller supplied and the rule does not use."""
    used = {
        "weight": suv.weight is not None,
        "dose": suv.dose is not None,
        "half_life": suv.half_life is not None,
        "injection_time": suv.injected is not None,
        "scan_time": suv.scanned is not None,
        "suv_factor": suv.rule == BY_FACTOR,
    }
    names = [name for name, of in used.items() if getattr(given, name) is not None and not of]
    return [f"--{name.replace('_', '-')} is not applied: {suv.rule}" for name in names]


def _rule(headers: Sequence[Dataset], given: Given) -> Suv:
    first = headers[0]
    agreement.check(headers, ["Units", "SUVType", "CorrectedImage", "DecayCorrection"])
    units = text_of(first, "Units").upper()
    if given.suv_factor is not None:
        _check_corrected(first, optional=True)
        if units == "GML" and text_of(first, "SUVType").upper() in ("", "BW"):
            return _grams_per_ml(first)
        return Suv(given.suv_factor, told(units) if units else "not given", BY_FACTOR)
    _check_corrected(first)
    if units == "GML":
        return _grams_per_ml(first)
    if units == "CNTS":
        return _philips(headers, given)
    if units == "BQML":
        return _becquerel(headers, given, units, 1.0, "")
    if not units:
        raise _missing("Units")
    raise ScanError(
        f"{tag('Units')} is {told(units)}, from which no SUV follows (BQML, GML or Philips' CNTS "
        "would do); if you know it, give --suv-factor FACTOR"
    )


def _check_corrected(header: Dataset, optional: bool = False) -> None:
    value = header.get("CorrectedImage")
    done = [value] if isinstance(value, str) else list(value or [])
    done = [str(item).strip().upper() for item in done]
    if not any(done):
        if optional:
            return
        raise ScanError(
            f"{tag('CorrectedImage')} is missing, so nothing says that the image is corrected for "
            "attenuation and decay; if it is, give --suv-factor FACTOR"
        )
    for name, what in (("ATTN", "attenuation"), ("DECY", "decay")):
        if name not in done:
            raise ScanError(
                f"not corrected for {what}: {tag('CorrectedImage')} is "
                f"{', '.join(map(told, done))} without {name}; take the corrected series of "
                "the same scan"
            )


def _grams_per_ml(header: Dataset) -> Suv:
    kind = text_of(header, "SUVType").upper()
    if kind not in ("", "BW"):
        raise ScanError(
            f"{tag('SUVType')} is {told(kind)}; the model needs SUV by body weight (BW), so take "
            "another series or give --suv-factor FACTOR"
        )
    return Suv(1.0, "GML", "the values are SUV already (GML)")


def _philips(headers: Sequence[Dataset], given: Given) -> Suv:
    if factor := _philips_factor(headers, PHILIPS_SUV, "SUV factor (7053,1000)"):
        return Suv(factor, "CNTS", "Philips' SUV factor (7053,1000)")
    name = "activity concentration factor (7053,1009)"
    if activity := _philips_factor(headers, PHILIPS_ACTIVITY, name):
        how = f"Philips' {name}, then "
        return _becquerel(headers, given, "CNTS", activity, how)
    raise ScanError(
        f"{tag('Units')} is CNTS (counts), and both of Philips' factors that turn them into SUV, "
        "(7053,1000) and (7053,1009), are missing or 0; export with private elements, or give "
        "--suv-factor FACTOR"
    )


def _philips_factor(headers: Sequence[Dataset], element: int, name: str) -> float:
    """Return the factor, 0.0 where it is missing. Raises `ScanError` where slices differ in it."""
    factors = [private(header, 0x7053, PHILIPS, element) for header in headers]
    agreement.check_texts(f"Philips' {name}", "number", list(map(repr, factors)), OPTION["Units"])
    return factors[0]


def _becquerel(
    headers: Sequence[Dataset], given: Given, units: str, activity: float, how: str
) -> Suv:
    """Bq/mL = value × activity; SUV = Bq/mL × weight / dose at the time decay is corrected to."""
    first = headers[0]
    _check_agreement(headers, given)
    weight = given.weight or _weight(first)
    dose = given.dose or _dose(first)
    decay = text_of(first, "DecayCorrection").upper()
    if decay == "ADMIN":
        rule = f"{how}Bq/mL × weight / dose (decay corrected to the injection: ADMIN)"
        replaced = tuple(_replaced(first, given))
        factor = activity * 1000 * weight / dose
        return Suv(factor, units, rule, weight, dose, warnings=replaced)
    if decay != "START":
        raise ScanError(
            f"{tag('DecayCorrection')} is {told(decay) if decay else 'missing'}; it must be START "
            "or ADMIN. If you know the factor, give --suv-factor FACTOR"
        )
    half_life = given.half_life or _half_life(first)
    scanned, scanned_from, late = scan_start(headers, given)
    injected, warnings = injection(first, scanned, given)
    passed = (scanned - injected).total_seconds()
    if not 0 <= passed <= LONGEST_UPTAKE * half_life:
        raise ScanError(
            f"the injection ({injected:%Y-%m-%d %H:%M:%S}) and the start of the scan "
            f"({scanned:%Y-%m-%d %H:%M:%S}, {scanned_from}) do not fit together; give "
            "--injection-time or --scan-time, with the date"
        )
    replaced = _replaced(first, given)
    left = dose * math.exp(-math.log(2) * passed / half_life)
    return Suv(
        activity * 1000 * weight / left,
        units,
        f"{how}Bq/mL × weight / dose decayed from injection to scan start (START)",
        weight,
        dose,
        half_life,
        injected,
        scanned,
        scanned_from,
        (*late, *warnings, *replaced),
    )


def _replaced(header: Dataset, given: Given) -> list[str]:
    """A warning for each number of the header that the caller's takes the place of."""
    about, lines = tracer(header), []
    for keyword, of, value, option in (
        ("PatientWeight", header, given.weight, "--weight"),
        ("RadionuclideTotalDose", about, given.dose, "--dose"),
        ("RadionuclideHalfLife", about, given.half_life, "--half-life"),
    ):
        text = text_of(of, keyword)
        if value is not None and text and not agreement.same(keyword, text, str(value)):
            lines.append(f"{option} takes the place of {tag(keyword)}, which says {told(text)}")
    return lines


def _check_agreement(headers: Sequence[Dataset], given: Given) -> None:
    """Raise `ScanError` where slices, or several injections, differ in what is taken from them."""
    if given.weight is None:
        agreement.check(headers, ["PatientWeight"], OPTION)
    starts = text_of(headers[0], "DecayCorrection").upper() != "ADMIN"
    if starts:
        agreement.check(headers, ["TimezoneOffsetFromUTC"])
    if starts and not isinstance(given.scan_time, datetime):
        agreement.check(headers, ["SeriesDate"], OPTION)
    if given.scan_time is None and starts:
        agreement.check(headers, ["SeriesTime"], OPTION)
        private_times = [private_text(header, 0x0009, GE, GE_SCAN_TIME) for header in headers]
        name = "GE's scan time (0009,100D)"
        agreement.check_texts(name, "DateTime", private_times, OPTION["SeriesTime"])
    needed = []
    if given.dose is None:
        needed.append("RadionuclideTotalDose")
    if given.half_life is None and starts:
        needed.append("RadionuclideHalfLife")
    if given.injection_time is None and starts:
        needed += ["RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"]
    agreement.check(headers, needed, OPTION, tracer)
    injections = [tracers(header) for header in headers]
    most = max(map(len, injections))
    for keyword in needed:
        values = [text_of(item, keyword) for items in injections for item in items]
        if not all(agreement.same(keyword, values[0], value) for value in values):
            raise ScanError(
                f"{most} injections stand in the header, which differ in {tag(keyword)}; "
                "give --dose, --half-life and --injection-time of the one that counts"
            )


def scan_start(
    headers: Sequence[Dataset], given: Given = Given()
) -> tuple[datetime, str, list[str]]:
    """Return the moment to which decay is corrected, in words where it was found, and warnings.

    GE's private scan time where it is there; else the series' time. But the earliest acquisition
    time where that is earlier: then the series was made (again) after the scan.
    """
    first = headers[0]
    series = _on_its_day(first, "SeriesDate", "SeriesTime")
    found = [moment for header in headers if (moment := acquisition(header))]
    earliest = min(found, default=None)
    if isinstance(given.scan_time, datetime):
        return given.scan_time, "--scan-time", []
    if given.scan_time is not None:
        return _day(first) + given.scan_time, "--scan-time", []
    private_time = private_text(first, 0x0009, GE, GE_SCAN_TIME)
    warnings = _floating(headers)
    for keyword in ("SeriesDate", "SeriesTime"):
        text = text_of(first, keyword)
        if text and (parse_date if keyword == "SeriesDate" else parse_time)(text) is None:
            warnings.append(f"{tag(keyword)} cannot be read; it is not used")
    moment = parse_datetime(private_time, zone_of(first))
    if private_time and (moment is None or (has_offset(private_time) and not zone_of(first))):
        what = "cannot be read" if moment is None else "has an offset from UTC that says nothing"
        warnings.append(f"GE's scan time (0009,100D) {what}; it is not used")
    elif moment:
        if earliest is None or moment <= earliest + ROUNDED:
            return moment, "GE's scan time (0009,100D)", _early(moment, earliest)
        warnings.append(
            f"GE's scan time (0009,100D), {moment:%H:%M:%S}, lies after the earliest acquisition, "
            f"{earliest:%H:%M:%S}; the earlier one is used"
        )
    if series and (earliest is None or series <= earliest):
        words = f"{tag('SeriesDate')} and {tag('SeriesTime')}"
        return series, words, warnings + _early(series, earliest)
    if earliest:
        return earliest, f"the earliest {tag('AcquisitionTime')}", warnings
    raise _missing("SeriesTime" if text_of(first, "SeriesDate") else "SeriesDate")


def _floating(headers: Sequence[Dataset]) -> list[str]:
    """A warning where an acquisition's date-time cannot be brought to the clock of the others."""
    for header in headers:
        text = text_of(header, "AcquisitionDateTime")
        alone = joined(header, "AcquisitionDate", "AcquisitionTime") is None
        if alone and has_offset(text) and not zone_of(header):
            return [
                f"{tag('AcquisitionDateTime')} has an offset from UTC, and nothing says the offset "
                "of the other times; it is not used"
            ]
    return []


def _early(moment: datetime, earliest: datetime | None) -> list[str]:
    """A warning where a scan began long before its first acquisition."""
    if earliest is None or earliest - moment <= EARLY:
        return []
    return [
        f"the scan's time, {moment:%Y-%m-%d %H:%M:%S}, lies long before the earliest acquisition, "
        f"{earliest:%Y-%m-%d %H:%M:%S}; if the later one is right, give --scan-time"
    ]


def acquisition(header: Dataset) -> datetime | None:
    """Return when the slice's acquisition began.

    Without a date of its own it has the series', or the next where midnight came between.
    """
    if both := joined(header, "AcquisitionDate", "AcquisitionTime"):
        return both
    text = text_of(header, "AcquisitionDateTime")
    if text and not (has_offset(text) and not zone_of(header)):
        return parse_datetime(text, zone_of(header))
    moment = _on_its_day(header, "AcquisitionDate", "AcquisitionTime")
    series = _on_its_day(header, "SeriesDate", "SeriesTime")
    if moment and series and series - moment > timedelta(hours=12):
        return moment + timedelta(days=1)
    return moment


def _on_its_day(header: Dataset, date: str, time: str) -> datetime | None:
    """A moment whose date, where it is missing, is that of another element."""
    dates = (date, "SeriesDate", "AcquisitionDate", "StudyDate")
    return next((moment for other in dates if (moment := joined(header, other, time))), None)


def injection(
    header: Dataset, scanned: datetime, given: Given = Given()
) -> tuple[datetime, list[str]]:
    """Return when the tracer was injected, at or before `scanned`, and warnings.

    The start date-time (0018,1078) goes before the start time (0018,1072), which has no date and
    is taken to lie in the 24 hours before the scan. A date-time that does not fit the scan, as
    some anonymisers leave it, gives way to the time, and so does one with an offset from UTC where
    nothing says what the offset of the other times is.
    """
    if isinstance(given.injection_time, datetime):
        return given.injection_time, []
    if given.injection_time is not None:
        return _before(given.injection_time, scanned), []
    about = tracer(header)
    moment = parse_datetime(text_of(about, "RadiopharmaceuticalStartDateTime"), zone_of(header))
    clock = parse_time(text_of(about, "RadiopharmaceuticalStartTime"))
    if clock is None and moment is None:
        raise _missing("RadiopharmaceuticalStartTime")
    date_time, time = (tag(f"RadiopharmaceuticalStart{kind}") for kind in ("DateTime", "Time"))
    text = text_of(about, "RadiopharmaceuticalStartDateTime")
    floating = has_offset(text) and not zone_of(header)
    if clock is None:
        note = f"{date_time} has an offset from UTC, and nothing says the offset of the scan's time"
        return moment, [f"{note}; it is taken as the scanner's own clock"] if floating else []
    by_clock = _before(clock, scanned)
    if moment is None or abs(moment - by_clock) <= ROUNDED:
        return moment or by_clock, []
    fits = timedelta(0) <= scanned - moment < timedelta(days=1) and not floating
    note = f"{date_time} is {moment:%Y-%m-%d %H:%M:%S}, and {time} is {by_clock:%H:%M:%S}; "
    return moment if fits else by_clock, [f"{note}{date_time if fits else time} is used"]


def _before(clock: timedelta, scanned: datetime) -> datetime:
    """The last moment before the scan at which it was this time of the day."""
    moment = scanned.replace(hour=0, minute=0, second=0, microsecond=0) + clock
    return moment - timedelta(days=1) if moment > scanned else moment


def _day(header: Dataset) -> datetime:
    for keyword in ("SeriesDate", "AcquisitionDate", "StudyDate"):
        if day := parse_date(text_of(header, keyword)):
            return day
    raise _missing("SeriesDate")


def _weight(header: Dataset) -> float:
    weight = number(header, "PatientWeight")
    if not WEIGHTS[0] <= weight <= WEIGHTS[1]:
        raise ScanError(f"{tag('PatientWeight')} is {weight:g} kg; give --weight KG")
    return weight


def _dose(header: Dataset) -> float:
    dose = number(tracer(header), "RadionuclideTotalDose")
    if not LEAST_DOSE <= dose <= MOST_DOSE:
        raise ScanError(
            f"{tag('RadionuclideTotalDose')} is {dose:g}, which is no dose in becquerel; give "
            "--dose MBQ"
        )
    return dose


def _half_life(header: Dataset) -> float:
    half_life = number(tracer(header), "RadionuclideHalfLife")
    if half_life < 1:
        raise ScanError(
            f"{tag('RadionuclideHalfLife')} is {half_life:g} s; give --half-life SECONDS"
        )
    return half_life


def tracer(header: Dataset) -> Dataset:
    """The first item of the radiopharmaceutical sequence, empty where there is none."""
    items = tracers(header)
    return items[0] if items else Dataset()


def tracers(header: Dataset) -> list[Dataset]:
    """All items of the radiopharmaceutical sequence."""
    items = header.get("RadiopharmaceuticalInformationSequence")
    return list(items) if isinstance(items, DicomSequence) else []


def _missing(keyword: str) -> ScanError:
    return ScanError(f"{tag(keyword)} is missing; give {OPTION[keyword]}")


def number(header: Dataset, keyword: str) -> float:
    """Return the element as a finite number of at least 0. Raises `ScanError`."""
    try:
        value = header.get(keyword)
        if value is None or str(value).strip() == "":
            raise _missing(keyword)
        found = float(value)
    except (TypeError, ValueError) as error:
        raise ScanError(f"{tag(keyword)} is no number; give {OPTION[keyword]}") from error
    if not math.isfinite(found) or found < 0:
        raise ScanError(
            f"{tag(keyword)} is {found:g}, expected a number above 0; give {OPTION[keyword]}"
        )
    return found


def private_text(header: Dataset, group: int, creator: str, element: int) -> str:
    """Return the text of a private element, "" where it is missing.

    Found by its creator; where an anonymiser removed the creator, in the block 10 that it has.
    """
    try:
        value = header.private_block(group, creator)[element].value
    except KeyError:
        if (group, 0x0010) in header:  # the block is somebody else's
            return ""
        found = header.get((group, 0x1000 | element))
        value = None if found is None else found.value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return "" if value is None else str(value).strip(" \0")


def private(header: Dataset, group: int, creator: str, element: int) -> float:
    """Return a private element as a number, 0.0 where it is missing or no number."""
    try:
        value = float(private_text(header, group, creator, element))
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0
