"""A DICOM PET series -> a volume in SUV: read, checked, slices in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tumour_segmenter.needs import how_to_install

from . import agreement
from .errors import ScanError, tag
from .result import Scan
from .source import File, Series
from .suv import Given, suv_of
from .times import text_of
from .volume import Volume, check_size, check_values

EVEN = 0.05  # of the distance between slices, by which one may be off
SAME_PLACE = 0.01  # mm
BESIDE = 1.0  # mm that a slice may lie aside of the others
TILT = 0.001  # of the distance between slices, by which the next may lie aside
NEEDED = ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"]
SAME_PATIENT = ["PatientID", "PatientName", "PatientBirthDate", "PatientSex"]
SAME_IMAGE = ["StudyInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"]
SAME_NUMBERS = ["PixelSpacing", "ImageOrientationPatient"]  # but for rounding
MOST_PIXELS = 2048**2  # of one slice
LARGEST_TILT = 0.5  # degrees
COUNTS_OF_4D = ["NumberOfTimeSlices", "NumberOfTimeSlots", "NumberOfRRIntervals"]


@dataclass(frozen=True)
class Slice:
    """header: without the pixels; stored: the values as stored, int H×W."""

    header: Dataset
    stored: np.ndarray


def read(series: Series, given: Given, step: Callable[[], None] = lambda: None) -> Scan:
    """Read a series; step: called after each file. Raises `ScanError`."""
    slices = []
    for _, file in series.files:
        slices.append(_read(file))
        step()
    check_one_image([s.header for s in slices])
    order, spacing, normal = stack([s.header for s in slices])
    slices = [slices[i] for i in order]
    headers = [s.header for s in slices]
    suv = suv_of(headers, given)
    shape = (len(slices), *slices[0].stored.shape)
    check_size(shape)
    values = np.empty(shape, np.float32)
    for k, one in enumerate(slices):
        slope, intercept = rescale(one.header)
        np.multiply(one.stored, np.float32(slope * suv.factor), out=values[k], casting="unsafe")
        values[k] += np.float32(intercept * suv.factor)
    check_values(values)
    uids = tuple(str(h.get("SOPInstanceUID", "")) for h in headers)
    return Scan(Volume(values, affine(headers[0], spacing, normal), uids), suv, tuple(headers))


def _read(file: File) -> Slice:
    try:
        with file.open() as stream:
            start = stream.read(132)
            stream.seek(0)
            header = dcmread(stream, force=start[128:] != b"DICM")
    except Exception as error:  # pydicom has no base for what damaged files raise
        kind = type(error).__name__
        raise ScanError(f"damaged or truncated ({kind})", file.name) from error
    rows, columns = (number(header, keyword, 0) for keyword in ("Rows", "Columns"))
    if rows * columns > MOST_PIXELS:
        raise ScanError("its size is that of no PET slice", file.name)
    if "TransferSyntaxUID" not in header.file_meta:  # a file without its first group
        implicit, little = header.original_encoding
        header.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian
            if implicit
            else ExplicitVRLittleEndian
            if little
            else ExplicitVRBigEndian
        )
    if number(header, "NumberOfFrames", 1) > 1:
        raise ScanError("multi-frame, which is not read; export single frames", file.name)
    try:
        stored = header.pixel_array
    except Exception as error:  # ValueError, AttributeError, RuntimeError and more
        raise ScanError(f"its pixels cannot be read: {_why(error)}", file.name) from error
    if stored.ndim != 2 or stored.dtype.kind not in "iu":
        raise ScanError("its pixels are no grey image of whole numbers", file.name)
    stored = stored.copy()  # without the file's bytes behind it
    del header.PixelData
    header._pixel_array = None
    return Slice(header, stored)


def _why(error: Exception) -> str:
    if "missing dependencies" in str(error):
        return f"they are compressed; {how_to_install('scan')} brings the decoders"
    return type(error).__name__


def rescale(header: Dataset) -> tuple[float, float]:
    """Return slope and intercept of one slice. Raises `ScanError`."""
    slope = number(header, "RescaleSlope")
    intercept = number(header, "RescaleIntercept", 0.0)
    if slope is None:
        raise ScanError(f"{tag('RescaleSlope')} is missing")
    if not slope > 0:
        raise ScanError(f"{tag('RescaleSlope')} is {slope:g}, expected above 0")
    return slope, intercept


def numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the element's numbers, none where it is missing or empty. Raises `ScanError`."""
    try:
        value = header.get(keyword)
        if value is None or str(value).strip() == "":
            return ()
        several = hasattr(value, "__iter__") and not isinstance(value, str)
        found = tuple(float(number) for number in (value if several else [value]))
    except (TypeError, ValueError) as error:
        raise ScanError(f"{tag(keyword)} is no number") from error
    if not np.isfinite(found).all():
        raise ScanError(f"{tag(keyword)} is {', '.join(f'{v:g}' for v in found)}")
    return found


def number(header: Dataset, keyword: str, default: float | None = None) -> float | None:
    """Return the element's one number, `default` where it is missing. Raises `ScanError`."""
    found = numbers(header, keyword)
    if len(found) > 1:
        raise ScanError(f"{tag(keyword)} has {len(found)} values, expected one")
    return found[0] if found else default


def check_one_image(headers: list[Dataset]) -> None:
    """Raise `ScanError` unless the headers are of one three-dimensional image of one patient."""
    for keyword in NEEDED:
        if any(not header.get(keyword) for header in headers):
            raise ScanError(f"{tag(keyword)} is missing in a file")
    for keyword in SAME_PATIENT:  # whose values are for nobody's eyes
        if len({text_of(header, keyword).upper().rstrip("^ ") for header in headers}) > 1:
            raise ScanError(f"its slices are of two patients: they differ in {tag(keyword)}")
    agreement.check(headers, SAME_IMAGE)
    for keyword in SAME_NUMBERS:
        agreement.check_numbers(tag(keyword), [numbers(header, keyword) for header in headers])
    for header in headers:
        _check_static(header, len(headers))


def _check_static(header: Dataset, count: int) -> None:
    """Raise `ScanError` where a header is of 4-D data, a tilted gantry or more slices."""
    tilt = number(header, "GantryDetectorTilt", 0.0)
    if abs(tilt) > LARGEST_TILT:
        raise ScanError(f"gantry tilt: {tag('GantryDetectorTilt')} is {tilt:g} degrees")
    kind = str(header.get("SeriesType") or "").upper()
    for name in ("DYNAMIC", "GATED"):
        if name in kind:
            raise ScanError(f"4-D data ({tag('SeriesType')} is {name}); take a static series")
    for keyword in COUNTS_OF_4D:
        if (times := number(header, keyword, 1)) > 1:
            raise ScanError(f"4-D data ({tag(keyword)} is {times:g}); take a static series")
    expected = number(header, "NumberOfSlices", 0)
    if expected > count:
        raise ScanError(
            f"missing slices: {count} files, but {tag('NumberOfSlices')} is {expected:g}"
        )


def stack(headers: list[Dataset]) -> tuple[list[int], float, np.ndarray]:
    """Return (order of the slices along their normal, mm between them, the normal in LPS).

    Raises `ScanError` for missing, doubled or unevenly spaced slices and for a tilted gantry.
    """
    if len(headers) < 2:
        raise ScanError("it has a single slice, expected a volume")
    try:
        places = np.array([[float(v) for v in h.ImagePositionPatient] for h in headers])
        if places.shape[1:] != (3,):
            raise ValueError("no places")
        row, column = _axes(headers[0])
    except (AttributeError, TypeError, ValueError) as error:
        raise ScanError(
            f"{tag('ImagePositionPatient')} or {tag('ImageOrientationPatient')} is missing or "
            "damaged, so nothing says where the slices lie"
        ) from error
    normal = np.cross(row, column)
    along = places @ normal
    order = [int(i) for i in np.argsort(along, kind="stable")]
    steps = np.diff(along[order])
    if (steps < SAME_PLACE).any():
        _refuse_doubled(headers, order, steps)
    step = float(np.median(steps))
    off = np.abs(steps - step)
    if off.max() > EVEN * step:
        ratio = float(steps.max() / step)
        if ratio > 1.5 and abs(ratio - round(ratio)) < 0.1:
            raise ScanError(
                f"missing slices: a gap of {steps.max():.2f} mm where slices are {step:.2f} mm "
                "apart"
            )
        raise ScanError(f"unevenly spaced slices: {steps.min():.2f} to {steps.max():.2f} mm apart")
    total = places[order[-1]] - places[order[0]]
    length = float(along[order[-1]] - along[order[0]])
    aside = float(np.linalg.norm(total - normal * length))
    if aside > TILT * length + SAME_PLACE:
        angle = np.degrees(np.arctan2(aside, length))
        raise ScanError(f"gantry tilt: the slices lie askew of their stack by {angle:.1f} degrees")
    beside = places - places[order[0]]
    beside -= np.outer(beside @ normal, normal)
    if (shift := float(np.linalg.norm(beside, axis=1).max())) > aside + BESIDE:
        raise ScanError(f"its slices do not lie behind each other: one is {shift:.1f} mm aside")
    if len({str(header.SOPInstanceUID) for header in headers}) < len(headers):
        raise ScanError(f"two slices have the same {tag('SOPInstanceUID')}")
    return order, length / (len(headers) - 1), normal


def _refuse_doubled(headers: list[Dataset], order: list[int], steps: np.ndarray) -> None:
    at = int(np.argmax(steps < SAME_PLACE))
    one, other = (headers[order[k]] for k in (at, at + 1))
    times = {str(h.get("AcquisitionTime")) + str(h.get("FrameReferenceTime")) for h in (one, other)}
    count = int((steps < SAME_PLACE).sum())
    if len(times) > 1 and one.get("SOPInstanceUID") != other.get("SOPInstanceUID"):
        raise ScanError(f"4-D data, or doubled slices: {count} lie at the place of another")
    raise ScanError(f"doubled slices: {count} lie at the place of another; remove the copies")


def _axes(header: Dataset) -> tuple[np.ndarray, np.ndarray]:
    values = [float(v) for v in header.ImageOrientationPatient]
    row, column = np.array(values[:3]), np.array(values[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if len(values) != 6 or abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01:
        raise ValueError("no unit vectors")
    return row / lengths[0], column / lengths[1]


def affine(first: Dataset, spacing: float, normal: np.ndarray) -> np.ndarray:
    """Return 4×4 from (slice, row, column) to LPS in mm. Raises `ScanError`."""
    row, column = _axes(first)
    try:
        down, right = (float(v) for v in first.PixelSpacing)
    except (AttributeError, TypeError, ValueError) as error:
        raise ScanError(f"{tag('PixelSpacing')} is missing or damaged") from error
    if not min(down, right) > 0:
        raise ScanError(f"{tag('PixelSpacing')} is {down:g}, {right:g} mm, expected above 0")
    matrix = np.eye(4)
    # Row index runs down the image, along the direction of its columns.
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = normal * spacing, column * down, row * right
    matrix[:3, 3] = [float(v) for v in first.ImagePositionPatient]
    return matrix
