"""Warnings: what can be used, but is not as usual."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from .liver import liver_suv
from .mip import Projection
from .result import Scan
from .suv import F18_HALF_LIFE, tracer
from .times import text_of
from .volume import Upright

UPTAKE_MINUTES = (45, 120)
MBQ_PER_KG = (1.5, 10)
LIVER_SUV = (1.8, 6.0)  # of the projection; its maxima lie above the organ's mean of 2 to 2.5
FDG = ("fdg", "fluorodeoxyglucose", "deoxyglucose", "fludeoxyglucose")
OTHERS = ("PSMA", "DOTA", "FAPI", "FLT", "FES", "FET", "DOPA", "choline", "fluoride", "NaF")
FDG_CODES = ("C-B1031", "35321007")
OBLIQUE = 1.0  # degrees


def warnings_of(scan: Scan, body: Upright, view: Projection) -> list[str]:
    """Return a line for each thing that is not as usual."""
    suv, lines = scan.suv, list(scan.suv.warnings)
    if scan.header is not None:
        lines += _tracer_warnings(scan.header)
    if suv.half_life and abs(suv.half_life / F18_HALF_LIFE - 1) > 0.02:
        lines.append(f"the half-life is {suv.half_life:g} s, that of F-18 is {F18_HALF_LIFE:g} s")
    minutes = suv.uptake_minutes
    if minutes is not None and not UPTAKE_MINUTES[0] <= minutes <= UPTAKE_MINUTES[1]:
        lines.append(f"{minutes:.0f} minutes from injection to scan, usual are 45 to 120")
    if suv.dose and suv.weight:
        each = suv.dose / 1e6 / suv.weight
        if not MBQ_PER_KG[0] <= each <= MBQ_PER_KG[1]:
            lines.append(f"{each:.2g} MBq injected for each kg, usual are 1.5 to 10")
    liver = liver_suv(view)
    if liver is None:
        lines.append("no liver was found in the projection, so its SUV could not be checked")
    elif not LIVER_SUV[0] <= liver <= LIVER_SUV[1]:
        lines.append(
            f"the liver region has an SUV of {liver:.1f} in the projection, usual are "
            f"{LIVER_SUV[0]:g} to {LIVER_SUV[1]:g}: is it FDG? are weight, dose, times right?"
        )
    if view.body_outside:
        lines.append("parts of the body lie outside the 400 columns (814 mm) of the projection")
    if body.degrees > OBLIQUE:
        lines.append(
            f"the volume lies {body.degrees:.1f} degrees off the patient's axes; it is projected "
            "along its own"
        )
    return lines


def _tracer_warnings(header: Dataset) -> list[str]:
    item = tracer(header)
    found = item.get("RadiopharmaceuticalCodeSequence")
    codes = list(found) if isinstance(found, Sequence) else []
    names = [text_of(item, "Radiopharmaceutical"), *(text_of(c, "CodeMeaning") for c in codes)]
    names = [name for name in names if name]
    known = any(word in name.lower().replace("-", "") for name in names for word in FDG)
    known |= any(text_of(code, "CodeValue") in FDG_CODES for code in codes)
    lines = []
    if not names and not known:
        lines.append("the header does not name the tracer; the model knows FDG alone")
    elif not known:
        # Other words are free text, which may name anybody.
        words = [word for word in OTHERS if word.lower() in " ".join(names).lower()]
        what = repr(words[0]) if words else "another"
        lines.append(f"the tracer is {what}, not FDG; the model knows FDG alone")
    return lines
