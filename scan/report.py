"""report.json of a series, and its row in the table of a cohort."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .lesions import Lesion, largest_distance
from .privacy import identifiers, without
from .result import Result
from .suv import Suv
from .times import parse_date, text_of
from .volume import Upright

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NOT_MEDICAL = "Research software, not a medical device."
COLUMNS = (
    "source",
    "folder",
    "series_uid",
    "date",
    "lesions",
    "projected_area_cm2",
    "dmax_mm",
    "suv_max",
    "highest_probability",
    "mip_suv_max",
    "suv_factor",
    "units",
    "uptake_minutes",
    "suv_black",
    "model_version",
    "model_hash",
    "operating_point",
    "warnings",
    "fault",
)


def series_of(header: Dataset | None, body: Upright) -> dict:
    """Return what the report says of the series; header: of its first slice, None for NIfTI."""
    said = {
        "format": "NIfTI" if header is None else "DICOM",
        "matrix": list(body.suv.shape),
        "spacing_mm": [round(mm, 4) for mm in body.spacing],
    }
    if header is None:
        return said
    words = identifiers(header)

    def text(keyword: str) -> str:
        return without(text_of(header, keyword), words)

    def uid(keyword: str) -> str:
        found = text_of(header, keyword)
        return found if re.fullmatch(r"[\d.]{1,64}", found) else ""

    day = parse_date(text_of(header, "SeriesDate"))
    return {
        "series_uid": uid("SeriesInstanceUID"),
        "study_uid": uid("StudyInstanceUID"),
        "frame_of_reference_uid": uid("FrameOfReferenceUID"),
        "description": text("SeriesDescription"),
        "date": f"{day:%Y%m%d}" if day else "",
        "scanner": f"{text('Manufacturer')} {text('ManufacturerModelName')}".strip(),
    } | said


def suv_of(suv: Suv) -> dict:
    """Return what the report says of the rule from stored values to SUV."""
    minutes = suv.uptake_minutes
    return {
        "factor": suv.factor,
        "units": suv.units,
        "rule": suv.rule,
        "weight_kg": suv.weight,
        "dose_mbq": None if suv.dose is None else suv.dose / 1e6,
        "half_life_s": suv.half_life,
        "injected": suv.injected and suv.injected.isoformat(" "),
        "scan_started": suv.scanned and suv.scanned.isoformat(" "),
        "scan_started_from": suv.scanned_from,
        "uptake_minutes": None if minutes is None else round(minutes, 2),
    }


def report(result: Result) -> dict:
    """Return the content of report.json, but for how it was run."""
    header, view, lesions = result.scan.header, result.view, result.lesions
    words = [] if header is None else identifiers(header)
    return {
        "about": f"Lesions in a projection: areas are no volumes. {NOT_MEDICAL}",
        "series": series_of(header, result.body),
        "suv": suv_of(result.scan.suv),
        "mip": {
            "suv_max": float(view.native.max()),
            "pixel_mm": list(view.pixel_mm),
            "shape": list(view.suv.shape),
            "suv_black": result.options.black,
        },
        "lesions": [_lesion(lesion) for lesion in lesions],
        "totals": {
            "lesions": len(lesions),
            "projected_area_cm2": sum(lesion.area_mm2 for lesion in lesions) / 100,
            "dmax_mm": largest_distance(lesions),
            "suv_max": max((lesion.suv_max for lesion in lesions), default=None),
            "highest_probability": max(
                (lesion.probability[0] for lesion in lesions if lesion.probability), default=None
            ),
        },
        "model": result.model,
        "warnings": [without(line, words) for line in result.warnings],
    }


def _lesion(lesion: Lesion) -> dict:
    said = asdict(lesion)
    hottest = {"index": list(said.pop("voxel")), "sop_instance_uid": said.pop("uid")}
    if sure := said.pop("probability"):
        said["probability"] = dict(zip(("highest", "mean"), sure, strict=True))
    return said | {"centroid_mm": list(lesion.centroid_mm), "hottest": hottest}


def row(source: int, folder: str, said: dict | None, uid: str = "", fault: str = "") -> dict:
    """Return the row of a series: source is the number of its SOURCE in the command, from 1."""
    if said is None:
        return {"source": source, "series_uid": uid, "fault": fault}
    totals = said["totals"]
    return {
        "source": source,
        "folder": folder,
        "series_uid": said["series"].get("series_uid", ""),
        "date": said["series"].get("date", ""),
        "lesions": totals["lesions"],
        "projected_area_cm2": f"{totals['projected_area_cm2']:.4f}",
        "dmax_mm": f"{totals['dmax_mm']:.2f}",
        "suv_max": _text(totals["suv_max"]),
        "highest_probability": _text(totals["highest_probability"]),
        "mip_suv_max": f"{said['mip']['suv_max']:.4f}",
        "suv_factor": f"{said['suv']['factor']:.9g}",
        "units": said["suv"]["units"],
        "uptake_minutes": said["suv"]["uptake_minutes"],
        "suv_black": said["mip"]["suv_black"],
        "model_version": said["model"]["version"],
        "model_hash": said["model"]["hash"],
        "operating_point": said["model"]["operating_point"],
        "warnings": "; ".join(said["warnings"]),
        "fault": "",
    }


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.4f}"


def is_table(path: Path) -> bool:
    """Whether a table may be written to `path`: nothing is there, or one of these."""
    begins = ",".join(COLUMNS[:2]).encode()
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(begins)) in (begins, b"")


def table(rows: Iterable[dict]) -> str:
    """Return the rows as CSV with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
