"""What of a header goes into reports: nothing that names the patient."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IDENTIFIERS = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientMotherBirthName",
    "OtherPatientIDs",
    "OtherPatientNames",
    "AccessionNumber",
    "IssuerOfPatientID",
]
REMOVED = "[removed]"
LETTER = r"[^\W_]"


def identifiers(header: Dataset) -> list[str]:
    """Return the words of the header by which the patient could be known, longest first."""
    words = set()
    for keyword in IDENTIFIERS:
        value = header.get(keyword)
        if value is None or value == "":
            continue
        for text in [value] if isinstance(value, str) or not hasattr(value, "append") else value:
            words.add(str(text).strip())
            words.update(re.split(r"[\^=,\s]+", str(text)))
    return sorted((word for word in words if len(word) > 1), key=len, reverse=True)


def without(text: str, words: list[str]) -> str:
    """Return `text` without any of `words`, whatever their case, where they stand alone."""
    for word in words:
        pattern = f"(?<!{LETTER}){re.escape(word)}(?!{LETTER})"
        text = re.sub(pattern, REMOVED, text, flags=re.IGNORECASE)
    return text
