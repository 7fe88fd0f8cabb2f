"""A NIfTI file -> a volume in SUV."""

from __future__ import annotations

import zlib

import numpy as np

from .errors import ScanError
from .source import Series
from .suv import Given, Suv
from .volume import Volume, check_size, check_values

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

MM = {"meter": 1000.0, "micron": 0.001}  # what is not said is mm


def read(series: Series, given: Given) -> tuple[Volume, Suv]:
    """Read a NIfTI file in SUV, or times `given.suv_factor`. Raises `ScanError`."""
    import nibabel

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
        if image.get_data_dtype().kind not in "iuf":
            raise ScanError(f"its values are {image.get_data_dtype()}, expected real numbers")
        values = image.get_fdata(caching="unchanged", dtype=np.float32).reshape(shape)
    except (ScanError, MemoryError):
        raise
    except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise ScanError(f"damaged, truncated or not NIfTI ({type(error).__name__})") from error
    except nibabel.filebasedimages.ImageFileError as error:
        raise ScanError(f"not a NIfTI file ({type(error).__name__})") from error
    if given.suv_factor is None:
        suv = Suv(1.0, "SUV", "the values of the NIfTI file are taken to be SUV")
    else:
        suv = Suv(given.suv_factor, "not given", "the factor of --suv-factor")
        values = values * np.float32(given.suv_factor)
    check_values(values)
    scale = MM.get(image.header.get_xyzt_units()[0], 1.0)
    affine = RAS_TO_LPS @ np.diag([scale, scale, scale, 1.0]) @ image.affine
    return Volume(values, affine), suv
