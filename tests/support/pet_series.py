"""PET series of a simple 3-D phantom, written as DICOM files slice by slice."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PET = "1.2.840.10008.5.1.4.1.1.128"
NAME, PATIENT = "Zimmermannova^Hildegard", "ID-7731-XQ"
SPACING = (3.0, 4.0, 4.0)  # mm: slices, rows, columns
LESIONS = [(30, 20, 34), (48, 22, 26)]  # slice from the feet, row, column
PEAKS = (12.0, 9.0)


def body(shape=(70, 40, 60)) -> np.ndarray:
    """SUV float32 [slices from the feet, rows from anterior, columns from the right]."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    suv = np.zeros(shape, np.float32)
    trunk = ((y - 20) / 12) ** 2 + ((x - 30) / 18) ** 2 + 0 * z < 1
    suv[trunk] = 0.8
    liver = ((z - 40) / 12) ** 2 + ((y - 20) / 9) ** 2 + ((x - 20) / 9) ** 2 < 1
    suv[liver] = 3
    brain = ((z - 66) / 4) ** 2 + ((y - 20) / 7) ** 2 + ((x - 30) / 7) ** 2 < 1
    suv[brain] = 8
    for (k, j, i), peak in zip(LESIONS, PEAKS, strict=True):
        suv[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2] = peak * 0.8
        suv[k, j, i] = peak
    return suv


def header(**changes) -> Dataset:
    """What all slices share: BQML, START, 60 minutes of uptake, 70 kg, 350 MBq."""
    tracer = Dataset()
    tracer.Radiopharmaceutical = "FDG -- fluorodeoxyglucose"
    tracer.RadionuclideTotalDose = 350e6
    tracer.RadionuclideHalfLife = 6586.2
    tracer.RadiopharmaceuticalStartTime = "100000"
    tracer.RadiopharmaceuticalStartDateTime = "20240115100000"
    about = Dataset()
    about.SOPClassUID = PET
    about.Modality = "PT"
    about.PatientName, about.PatientID = NAME, PATIENT
    about.PatientBirthDate, about.PatientSex = "19510203", "F"
    about.PatientWeight = 70
    about.StudyInstanceUID, about.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.5"
    about.FrameOfReferenceUID = "1.2.3.4.6"
    about.StudyDate = about.SeriesDate = about.AcquisitionDate = "20240115"
    about.StudyTime, about.SeriesTime, about.AcquisitionTime = "095500", "110000", "110000"
    about.SeriesDescription = "PET WB"
    about.Manufacturer, about.ManufacturerModelName = "ACME", "Ring 1"
    about.Units, about.DecayCorrection = "BQML", "START"
    about.CorrectedImage = ["ATTN", "DECY", "SCAT"]
    about.SeriesType = ["WHOLE BODY", "IMAGE"]
    about.RadiopharmaceuticalInformationSequence = [tracer]
    for keyword, value in changes.items():
        where = tracer if keyword.startswith(("Radiopharm", "Radionuclide")) else about
        if value is None:
            if keyword in where:
                del where[keyword]
        else:
            setattr(where, keyword, value)
    return about


FACTOR = 70 * 1000 / (350e6 * 2 ** (-3600 / 6586.2))


def datasets(suv: np.ndarray | None = None, spacing=SPACING, factor=FACTOR, **changes) -> list:
    """One FileDataset a slice, from the feet up, each with a RescaleSlope of its own."""
    suv = body() if suv is None else suv
    shared = header(**changes)
    slices = []
    for k, plane in enumerate(suv):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = PET, ExplicitVRLittleEndian
        one = FileDataset("", copy.deepcopy(shared), file_meta=meta, preamble=b"\0" * 128)
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = f"1.2.3.4.5.{k + 1}"
        one.InstanceNumber = k + 1
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [
            -spacing[2] * (plane.shape[1] - 1) / 2,
            -spacing[1] * (plane.shape[0] - 1) / 2,
            k * spacing[0],
        ]
        one.PixelSpacing, one.SliceThickness = [spacing[1], spacing[2]], spacing[0]
        values = plane / factor
        slope = float(f"{max(values.max(), 1) / 32000:.8g}")
        stored = np.round(values / slope).astype("<i2")
        one.RescaleSlope, one.RescaleIntercept = slope, 0
        one.Rows, one.Columns = stored.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.PixelData = stored.tobytes()
        slices.append(one)
    return slices


def save(slices: list, folder: Path) -> Path:
    """Write the slices into `folder`, in an order that is not theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, one in enumerate(slices):
        one.save_as(folder / f"im{(k * 7919) % 10007:05d}_{k}.dcm", enforce_file_format=True)
    return folder


def write_series(folder: Path, **options) -> Path:
    """Write a whole series into `folder`."""
    return save(datasets(**options), folder)


def other(modality: str, uid: str | None = None) -> FileDataset:
    """A file of another modality, without pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = (
        "1.2.840.10008.5.1.4.1.1.2",
        (ExplicitVRLittleEndian),
    )
    one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.Modality = "1.2.840.10008.5.1.4.1.1.2", modality
    one.SeriesInstanceUID = uid or generate_uid()
    one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    return one
