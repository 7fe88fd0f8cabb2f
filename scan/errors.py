"""Why a series is refused."""


class ScanError(Exception):
    """A series that cannot be used; the message is one line that says what to do about it."""


def tag(keyword: str) -> str:
    """Return the DICOM keyword with its number: "PatientWeight (0010,1030)"."""
    from pydicom.datadict import tag_for_keyword

    number = tag_for_keyword(keyword)
    return f"{keyword} ({number >> 16:04X},{number & 0xFFFF:04X})"
