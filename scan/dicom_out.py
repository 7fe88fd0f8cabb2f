"""The projection as a derived PET image, and its mask as a DICOM segmentation of that image."""

from __future__ import annotations

import io
from datetime import datetime
from itertools import chain

import numpy as np
import pydicom.config
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import validate_value

import tumour_segmenter

from .errors import tag
from .geometry import COLUMN_MM, ROW_MM, column_places
from .mip import Projection
from .privacy import identifiers, without
from .report import NOT_MEDICAL
from .result import Result
from .source import PET
from .suv import Suv, tracer
from .volume import Upright

MAKER, PRODUCT = "tumour-segmenter", "scan"
HIGHEST = 65_535
UNDECODED = "\ufffd"  # what a decoder writes where it could not
PATIENT = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"]
SEXES = "M", "F", "O"
COLLIMATORS = "NONE", "RING"
STUDY = ["StudyID", "AccessionNumber", "ReferringPhysicianName"]
DATES = ["StudyDate", "StudyTime"]
PET_SERIES = ["DecayCorrection", "CorrectedImage", "CountsSource", "CollimatorType"]


def make(result: Result) -> tuple[dict[str, bytes], list[str]]:
    """Return the two files, name -> bytes, and warnings.

    Both lie in the study and the frame of reference of the scan. The patient is left empty unless
    the options say so. Texts are in UTF-8 (ISO_IR 192). Each call makes UIDs of its own: an
    archive keeps the first of two objects with one UID.
    """
    source = Header(result.scan.header or Dataset())
    image = projection(source, result)
    seg = segmentation(image, result.mask, result.model)
    return {"mip.dcm": _bytes(image), "mask.dcm": _bytes(seg)}, source.warnings


class Header:
    """A header of which an element that cannot be read counts as missing, with a warning."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.warnings = dataset, []

    def get(self, keyword: str, default: object = None, of: Dataset | None = None) -> object:
        """Return the element's value; of: an item of a sequence in place of the header."""
        try:
            value = (self.dataset if of is None else of).get(keyword, default)
            if isinstance(value, MultiValue) and dictionary_VM(keyword) == "1":
                raise ValueError("several values")
            if keyword == "PatientSex" and value not in (*SEXES, "", None):
                raise ValueError("no sex of the standard")
            _check(dictionary_VR(keyword), value)
        except Exception:  # pydicom has no base for what it raises on damaged values
            return self._unreadable(keyword, default)
        return value

    def _unreadable(self, keyword: str, default: object) -> object:
        note = f"{tag(keyword)} cannot be read; it is left out of the DICOM files"
        if note not in self.warnings:
            self.warnings.append(note)
        return default


def _check(vr: str, value: object) -> None:
    """Raise `ValueError` where a value could not be written again, as pydicom would on writing."""
    if isinstance(value, bytes) or (vr == "SQ" and value and not isinstance(value, Sequence)):
        raise ValueError("not of its kind")
    if isinstance(value, Sequence):
        for element in chain.from_iterable(value):
            _check(element.VR, element.value)
    elif isinstance(value, MultiValue):
        for part in value:
            _check(vr, part)
    elif value is not None:
        if UNDECODED in str(value):
            raise ValueError("a text that could not be decoded")
        validate_value(vr, str(value), pydicom.config.RAISE)


def projection(source: Header, result: Result) -> FileDataset:
    """Return the projection in SUV (GML) as a PET image of one coronal slice (REPROJECTION)."""
    with_patient = result.options.dicom_patient
    words = [] if with_patient else identifiers(source.dataset)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = PET, ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SpecificCharacterSet = "ISO_IR 192"
    for keyword in PATIENT + STUDY:
        value = source.get(keyword) if with_patient else None
        setattr(image, keyword, str(value) if value else "")
    for keyword in DATES:
        setattr(image, keyword, source.get(keyword) or "")
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(image, keyword, source.get(keyword) or _uid())
    image.SeriesInstanceUID, image.SOPInstanceUID = _uid(), _uid()
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.SOPClassUID, image.Modality = PET, "PT"
    image.PositionReferenceIndicator = ""
    image.SeriesNumber, image.InstanceNumber, image.ImageIndex = 901, 1, 1
    image.BodyPartExamined = "WHOLEBODY"
    image.SeriesDescription = "Maximum intensity projection"
    image.Manufacturer, image.ManufacturerModelName = MAKER, PRODUCT
    image.SoftwareVersions = tumour_segmenter.__version__
    image.ImageType = ["DERIVED", "PRIMARY"]
    image.DerivationDescription = (
        "maximum from anterior to posterior, resampled to 2.036 x 2 mm, SUV. " + NOT_MEDICAL
    )
    _pet(image, source, result.scan.suv, words)
    _times(image, source)
    _references(image, source, result.scan.headers)
    _place(image, result.body, result.view)
    _pixels(image, result.view.suv, result.options.black)
    return image


def _pet(image: Dataset, source: Header, suv: Suv, words: list[str]) -> None:
    image.Units, image.SUVType = "GML", "BW"
    for keyword in PET_SERIES:
        setattr(image, keyword, source.get(keyword) or "")
    image.CountsSource = image.CountsSource or "EMISSION"
    if image.CollimatorType not in COLLIMATORS:
        image.CollimatorType = "NONE"
    image.DecayCorrection = image.DecayCorrection or "START"
    image.CorrectedImage = image.CorrectedImage or ["DECY", "ATTN"]
    image.SeriesType, image.ReprojectionMethod = ["WHOLE BODY", "REPROJECTION"], "MAX PIXEL"
    image.NumberOfSlices = 1
    image.PatientWeight = suv.weight or source.get("PatientWeight") or None
    image.FrameReferenceTime = source.get("FrameReferenceTime") or 0
    image.ActualFrameDuration = source.get("ActualFrameDuration") or 1
    image.DecayFactor = 1
    image.RadiopharmaceuticalInformationSequence = _tracer(source, suv, words)
    image.PatientOrientationCodeSequence = source.get("PatientOrientationCodeSequence") or []
    image.PatientGantryRelationshipCodeSequence = (
        source.get("PatientGantryRelationshipCodeSequence") or []
    )


def _tracer(source: Header, suv: Suv, words: list[str]) -> list[Dataset]:
    """What is known of the tracer: what the SUV was reckoned with, and else what the scan says."""
    item, copy = tracer(source.dataset), Dataset()
    for keyword in (
        "Radiopharmaceutical",
        "RadiopharmaceuticalStartTime",
        "RadiopharmaceuticalStartDateTime",
        "RadionuclideTotalDose",
        "RadionuclideHalfLife",
        "RadionuclidePositronFraction",
        "RadionuclideCodeSequence",
        "RadiopharmaceuticalCodeSequence",
    ):
        if (value := source.get(keyword, of=item)) is not None:
            setattr(copy, keyword, value)
    if suv.dose:
        copy.RadionuclideTotalDose = _ds(suv.dose)
    if suv.half_life:
        copy.RadionuclideHalfLife = _ds(suv.half_life)
    if suv.injected:
        copy.RadiopharmaceuticalStartTime = f"{suv.injected:%H%M%S}"
        copy.RadiopharmaceuticalStartDateTime = f"{suv.injected:%Y%m%d%H%M%S}"
    if not copy:
        return []
    if "Radiopharmaceutical" in copy:
        copy.Radiopharmaceutical = without(str(copy.Radiopharmaceutical), words)
    # The standard wants the codes, if empty.
    copy.RadionuclideCodeSequence = copy.get("RadionuclideCodeSequence") or []
    return [copy]


def _times(image: Dataset, source: Header) -> None:
    now = datetime.now()
    image.SeriesDate = image.ContentDate = now.strftime("%Y%m%d")
    image.SeriesTime = image.ContentTime = now.strftime("%H%M%S")
    date = source.get("AcquisitionDate") or source.get("SeriesDate") or ""
    image.AcquisitionDate = date
    image.AcquisitionTime = source.get("AcquisitionTime") or source.get("SeriesTime") or ""


def _references(image: Dataset, source: Header, headers: tuple[Dataset, ...]) -> None:
    """Name the slices that the image is made of."""
    items = []
    for header in headers:
        kind, uid = (source.get(of, of=header) for of in ("SOPClassUID", "SOPInstanceUID"))
        if kind and uid:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, uid
            items.append(item)
    if items:
        image.SourceImageSequence = items


def _place(image: Dataset, body: Upright, view: Projection) -> None:
    """Lay the image into the middle of the patient, coronal, head up, left on the right.

    It lies along the volume's own axes, which may be a few degrees off the patient's."""
    _, rows, columns = body.suv.shape
    up, back, left = body.directions
    place = (
        np.array(body.origin)
        + (view.suv.shape[0] - 1) * ROW_MM * up
        + (rows - 1) / 2 * body.spacing[1] * back
        + column_places(columns, body.spacing[2])[0] * body.spacing[2] * left
    )
    image.ImagePositionPatient = [_ds(mm) for mm in place]
    image.ImageOrientationPatient = [_ds(cosine + 0.0) for cosine in (*left, *-up)]
    image.PixelSpacing = [ROW_MM, COLUMN_MM]
    image.SliceThickness = _ds(rows * body.spacing[1])


def _pixels(image: Dataset, suv: np.ndarray, black: float) -> None:
    slope = float(_ds(max(float(suv.max()), 1e-6) / HIGHEST * (1 + 1e-9)))
    stored = np.clip(np.round(suv / slope), 0, HIGHEST).astype("<u2")
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 0
    image.RescaleIntercept, image.RescaleSlope = 0, _ds(slope)
    image.WindowCenter, image.WindowWidth = black / 2, black
    image.PixelData = stored.tobytes()


def segmentation(image: FileDataset, mask: np.ndarray, model: dict[str, str | None]) -> Dataset:
    """Return a DICOM SEG with one segment, the tumour, that references the projection."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
    from highdicom.seg import SegmentationTypeValues as Kind
    from pydicom.sr.codedict import codes

    version = model["version"] or "unknown"
    name = model["name"] or "model"
    described = SegmentDescription(
        segment_number=1,
        segment_label="Tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=name, version=version, family=codes.DCM.ArtificialIntelligence
        ),
    )
    return Segmentation(
        source_images=[image],
        pixel_array=(mask != 0)[None].astype(np.uint8),
        segmentation_type=Kind.BINARY,
        segment_descriptions=[described],
        series_instance_uid=_uid(),
        series_number=902,
        sop_instance_uid=_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=PRODUCT,
        software_versions=tumour_segmenter.__version__,
        device_serial_number=(model["hash"] or "none")[:16],
        content_label="TUMOUR",
        content_description=NOT_MEDICAL,
        series_description="Tumour mask of the projection",
        omit_empty_frames=False,
    )


def _uid() -> str:
    return generate_uid(prefix=None)  # 2.25, from a random UUID


def _ds(number: float) -> str:
    """A decimal string of DICOM has at most 16 characters."""
    for digits in range(12, 5, -1):
        if len(text := f"{number:.{digits}g}") <= 16:
            return text
    return f"{number:.5g}"


def _bytes(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()
