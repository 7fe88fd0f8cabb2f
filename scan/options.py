"""How series are treated."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, fields

from .geometry import SUV_BLACK
from .suv import Given


@dataclass(frozen=True)
class Options:
    """How series are treated: see `python -m scan --help`."""

    given: Given = field(default_factory=Given)
    black: float = SUV_BLACK
    dicom: bool = False
    dicom_patient: bool = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Options:
        """Return those of the command line."""
        given = Given(**{field.name: getattr(arguments, field.name) for field in fields(Given)})
        dicom = arguments.dicom, arguments.dicom_patient
        return cls(given, arguments.suv_black, *dicom)

    def as_json(self) -> dict:
        """Everything that the results depend on, for report.json."""
        given = {k: None if v is None else str(v) for k, v in asdict(self.given).items()}
        dicom = {"dicom": self.dicom, "dicom_patient": self.dicom_patient}
        return given | {"suv_black": self.black} | dicom
