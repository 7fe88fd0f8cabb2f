"""Why a series is refused."""

import re


class ScanError(Exception):
    """A series that cannot be used; the message is one line that says what to do about it.

    where: the source or the file, which may bear a patient's name: shown on the terminal, but
    never written to a file.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


def tag(keyword: str) -> str:
    """Return the DICOM keyword with its number: "PatientWeight (0010,1030)"."""
    from pydicom.datadict import tag_for_keyword

    number = tag_for_keyword(keyword)
    return f"{keyword} ({number >> 16:04X},{number & 0xFFFF:04X})"


NUMBER = r"[\d.:+-]+(e[+-]?\d+)?"
DEFINED = {  # by the standard, for Units, SUVType, DecayCorrection and CorrectedImage
    *("CNTS", "NONE", "CM2", "CM2ML", "PCNT", "CPS", "BQML", "MGMINML", "UMOLMINML", "MLMING"),
    *("MLG", "1CM", "UMOLML", "PROPCNTS", "PROPCPS", "MLMINML", "MLML", "GML", "STDDEV", "BSA"),
    *("BW", "LBM", "LBMJAMES128", "LBMJANMA", "IBW", "START", "ADMIN", "DECY", "ATTN", "SCAT"),
    *("DTIM", "MOTN", "PMOT", "CLN", "RAN", "RADL", "DCAL", "NORM"),
}


def told(value: str) -> str:
    """Return a header's text where it is a number, a time or a code that the standard defines.

    Another text might name somebody.
    """
    if value in DEFINED or re.fullmatch(NUMBER, value, re.IGNORECASE):
        return value
    return "an unknown word"


def first_line(error: BaseException) -> str:
    """Return the first line of the error's message, its type where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
