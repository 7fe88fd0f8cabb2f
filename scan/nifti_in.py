"""A NIfTI file -> a volume in SUV."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ScanError
from .source import Series
from .suv import BY_FACTOR, Given, Suv
from .volume import Volume, check_size, check_values, fill_outside

if TYPE_CHECKING:
    from nibabel import Nifti1Image

BODY, MOST_MEAN = 0.3, 2.0  # SUV of what is body, and the mean there: it is about 1 by definition
SAME_SIZE = 0.01  # of a voxel
GZIP = b"\x1f\x8b"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

MM = {"meter": 1000.0, "micron": 0.001}  # what is not said is mm


def read(series: Series, given: Given) -> tuple[Volume, Suv]:
    """Read a NIfTI file in SUV, or times `given.suv_factor`. Raises `ScanError`."""
    import nibabel

    _check_compression(series.source)
    try:
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
        _check_forms(image)
        if image.get_data_dtype().kind not in "iuf":
            raise ScanError(f"its values are {image.get_data_dtype()}, expected real numbers")
        values = image.get_fdata(caching="unchanged", dtype=np.float32).reshape(shape)
    except (ScanError, MemoryError):
        raise
    except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise ScanError(f"damaged, truncated or not NIfTI ({type(error).__name__})") from error
    except nibabel.filebasedimages.ImageFileError as error:
        raise ScanError(f"not a NIfTI file ({type(error).__name__})") from error
    warnings = tuple(fill_outside(values))
    if given.suv_factor is None:
        suv = Suv(1.0, "SUV", "the values of the NIfTI file are taken to be SUV", warnings=warnings)
        _check_suv(values)
    else:
        suv = Suv(given.suv_factor, "not given", BY_FACTOR, warnings=warnings)
        values = values * np.float32(given.suv_factor)
    check_values(values)
    scale = MM.get(image.header.get_xyzt_units()[0], 1.0)
    affine = RAS_TO_LPS @ np.diag([scale, scale, scale, 1.0]) @ image.affine
    return Volume(values, affine), suv


def _check_compression(path: Path) -> None:
    """Raise `ScanError` where the name says otherwise than the content."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    if packed != path.name.lower().endswith(".gz"):
        what, ending = ("compressed", ".nii.gz") if packed else ("not compressed", ".nii")
        raise ScanError(f"its name does not fit, as it is {what}: rename it to end in {ending}")


def _check_forms(image: Nifti1Image) -> None:
    """Raise `ScanError` where qform, sform and pixdim contradict each other."""
    header = image.header
    zooms = np.array(header.get_zooms()[:3], float)
    if int(header["sform_code"]):
        sform = header.get_sform()
        sizes = np.linalg.norm(sform[:3, :3], axis=0)
        if not np.allclose(sizes, zooms, rtol=SAME_SIZE):
            raise ScanError(
                f"its sform has voxels of {_mm(sizes)} mm, and its pixdim of {_mm(zooms)} mm; "
                "write the right ones into both"
            )
        if int(header["qform_code"]):
            qform = header.get_qform()
            axis = int(np.abs(sform[0, :3]).argmax())
            if sform[0, axis] * qform[0, axis] < 0:
                raise ScanError(
                    "its sform and its qform have left and right the other way round (signs of x "
                    f"{sform[0, axis]:+.3g} and {qform[0, axis]:+.3g}); remove the wrong one"
                )


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
