"""What of a header goes into reports: nothing that names the patient."""

from __future__ import annotations

import re
import unicodedata
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
    "ReferringPhysicianName",
]
LONG = 5  # letters, from which a word is found within another as well
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
            text = unicodedata.normalize("NFC", str(text))
            words.add(text.strip())
            words.update(re.split(r"[\^=,\s]+", text))
            words.update(word for word in re.split(r"[\W_]+", text) if len(word) >= LONG - 1)
    return sorted((word for word in words if len(word) > 1), key=len, reverse=True)


def without(text: str, words: list[str]) -> str:
    """Return `text` without any of `words`, whatever their case; short ones where they stand
    alone."""
    text = unicodedata.normalize("NFC", text)
    for word in words:
        alone = f"(?<!{LETTER}){re.escape(word)}(?!{LETTER})"
        pattern = re.escape(word) if len(word) >= LONG else alone
        text = re.sub(pattern, REMOVED, text, flags=re.IGNORECASE)
    return text
