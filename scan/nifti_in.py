"""A NIfTI file -> a volume in SUV."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ScanError
from .result import Scan
from .source import Series
from .suv import BY_FACTOR, Given, Suv, unused
from .volume import Volume, check_size, check_values, fill_outside

if TYPE_CHECKING:
    from nibabel import Nifti1Image

BODY, MOST_MEAN = 0.3, 2.0  # SUV of what is body, and the mean there: it is about 1 by definition
SAME_SIZE = 0.01  # of a voxel
GZIP = b"\x1f\x8b"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

MM = {"meter": 1000.0, "micron": 0.001}  # what is not said is mm


def read(series: Series, given: Given, step: Callable[[], None] = lambda: None) -> Scan:
    """Read a NIfTI file in SUV, or times `given.suv_factor`; step: called once it was read.

    Raises `ScanError`.
    """
    import nibabel

    try:
        _check_compression(series.source)
        with nibabel.imageglobals.ErrorLevel(30):  # else a voxel of 0 mm counts as 1 mm
            image = nibabel.load(series.source)
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        check_size(shape)
        if not (int(image.header["qform_code"]) or int(image.header["sform_code"])):
            raise ScanError(
                "neither its qform nor its sform says where the voxels lie in the patient (both "
                "codes are 0)"
            )
        warnings = _check_forms(image)
        if image.get_data_dtype().kind not in "iuf":
            raise ScanError(f"its values are {image.get_data_dtype()}, expected real numbers")
        values = image.get_fdata(caching="unchanged", dtype=np.float32).reshape(shape)
        scale = MM.get(image.header.get_xyzt_units()[0], 1.0)
    except (ScanError, MemoryError):
        raise
    except Exception as error:  # nibabel has no base for what damaged files raise
        raise ScanError(f"damaged, truncated or not NIfTI ({type(error).__name__})") from error
    if given.suv_factor is None:
        suv = Suv(1.0, "SUV", "the values of the NIfTI file are taken to be SUV")
    else:
        suv = Suv(given.suv_factor, "not given", BY_FACTOR)
        values = values * np.float32(given.suv_factor)
    suv = replace(suv, warnings=(*warnings, *unused(suv, given), *fill_outside(values)))
    if given.suv_factor is None:
        _check_suv(values)
    check_values(values)
    affine = RAS_TO_LPS @ np.diag([scale, scale, scale, 1.0]) @ image.affine
    step()
    return Scan(Volume(values, affine), suv)


def _check_compression(path: Path) -> None:
    """Raise `ScanError` where the name says otherwise than the content, or a checksum is wrong."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    if packed:
        with gzip.open(path) as file:  # nibabel does not read up to the checksum
            while file.read(2**20):
                pass
    if packed != path.name.lower().endswith(".gz"):
        what, ending = ("compressed", ".nii.gz") if packed else ("not compressed", ".nii")
        raise ScanError(f"its name does not fit, as it is {what}: rename it to end in {ending}")


def _check_forms(image: Nifti1Image) -> list[str]:
    """Raise `ScanError` where qform, sform and pixdim contradict each other; return warnings.

    Forms of one code are of one space and must agree. Those of two may be of two, such as the
    scanner's and that of another image; but no space turns a patient round.
    """
    header = image.header
    if not int(header["sform_code"]):
        return []
    sform, zooms = header.get_sform(), np.array(header.get_zooms()[:3], float)
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    if not np.allclose(sizes, zooms, rtol=SAME_SIZE):
        raise ScanError(
            f"its sform has voxels of {_mm(sizes)} mm, and its pixdim of {_mm(zooms)} mm; "
            "write the right ones into both"
        )
    if not int(header["qform_code"]):
        return []
    qform = header.get_qform()
    for patient, name in enumerate(("left and right", "front and back", "head and feet")):
        axis = int(np.abs(sform[patient, :3]).argmax())
        along = sform[patient, axis], qform[patient, axis]
        if along[0] * along[1] <= (sizes[axis] / 2) ** 2:
            raise ScanError(
                f"its sform and its qform contradict each other on {name} ({along[0]:+.3g} and "
                f"{along[1]:+.3g} mm a voxel); remove the wrong one"
            )
    corners = np.array([*product(*((0, size - 1) for size in image.shape[:3]))])
    moved = corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3]
    apart = float(np.linalg.norm(moved, axis=1).max())
    if apart <= zooms.min() / 2:
        return []
    if int(header["sform_code"]) == int(header["qform_code"]):
        raise ScanError(
            f"its sform and its qform place it {apart:.3g} mm apart; remove the wrong one"
        )
    return [f"its sform and its qform place it {apart:.3g} mm apart; the sform is used"]


def _mm(sizes: np.ndarray) -> str:
    return "×".join(f"{size:.4g}" for size in sizes)


def _check_suv(values: np.ndarray) -> None:
    """Raise `ScanError` where the body's mean is far above 1, as it is in kBq/mL."""
    body = values[values > BODY]
    mean = float(body.mean(dtype=np.float64)) if body.size else 0.0
    if MOST_MEAN < mean < 1000:
        raise ScanError(
            f"the mean in the body is {mean:.1f}, where SUV has about 1: is it in kBq/mL? Give "
            "--suv-factor FACTOR, or 1 if it is SUV"
        )
