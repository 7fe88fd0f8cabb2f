"""A volume in SUV, and the same volume turned upright: feet first, anterior first, right first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import ScanError

MOST_OBLIQUE = 5.0  # degrees between an axis of the volume and an axis of the patient
SHEARED = 0.01  # cosine of the angle between two axes of the volume, from which it is tilted
MOST_VOXELS = 2**28
SKIN = 1.0  # SUV: what lies at the surface has less, organs and blood have more


@dataclass(frozen=True)
class Volume:
    """suv: float32, in the file's own axes; affine: 4×4, index -> mm in the patient (LPS).

    uids: SOP Instance UID for each index of axis 0, empty for NIfTI.
    """

    suv: np.ndarray
    affine: np.ndarray
    uids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Upright:
    """suv: float32 [slices from the feet up, rows from anterior, columns from the right].

    A view of the volume, not a copy. spacing: mm along these axes; origin: LPS of index 0, 0, 0;
    degrees: the largest angle between an axis and the patient's.
    """

    suv: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    degrees: float
    directions: np.ndarray  # 3×3: of each of our axes its unit vector in LPS
    axes: tuple[int, int, int]  # which axis of the file each of ours is
    flipped: tuple[bool, bool, bool]

    def own_index(self, slice_: int, row: int, column: int) -> tuple[int, int, int]:
        """Return the index of a voxel in the file's own axes."""
        index = [0, 0, 0]
        for axis, flip, at, size in zip(
            self.axes, self.flipped, (slice_, row, column), self.suv.shape, strict=True
        ):
            index[axis] = size - 1 - at if flip else at
        return tuple(index)


def check_size(shape: tuple[int, ...]) -> None:
    """Raise `ScanError` unless `shape` is that of a volume that fits into memory."""
    if len(shape) != 3:
        raise ScanError(f"it has {len(shape)} dimensions, expected 3: one volume, not 4-D data")
    if min(shape) < 2 or math.prod(shape) > MOST_VOXELS:
        raise ScanError(
            f"its size {'×'.join(map(str, shape))} is that of no PET (at least 2 along each axis, "
            f"at most {MOST_VOXELS:,} voxels)"
        )


def fill_outside(suv: np.ndarray) -> list[str]:
    """Set what is no number outside of the body to 0, in place; return a warning where any is.

    Raises `ScanError` where a voxel inside is no number. A slice, row or block that was lost may
    reach the border, as the air between the legs of a masked body does. So inside is what has
    numbers on both sides along two of the axes, or, along one, numbers above the uptake of skin.
    """
    missing = ~np.isfinite(suv)
    if not missing.any():
        return []
    inside, enclosed = np.zeros_like(missing), np.zeros(missing.shape, np.uint8)
    for axis in range(missing.ndim):
        before, hot_before = _neighbours(suv, missing, axis)
        after, hot_after = (
            np.flip(found, axis)
            for found in _neighbours(np.flip(suv, axis), np.flip(missing, axis), axis)
        )
        enclosed += missing & before & after
        inside |= missing & hot_before & hot_after
    if count := int((inside | (enclosed > 1)).sum()):
        raise ScanError(
            f"{count:,} voxels inside the body are no numbers (NaN or infinite); convert the scan "
            "again, or write numbers in their place"
        )
    lines = [f"{missing.mean():.1%} of the voxels are no numbers; they count as SUV 0"]
    body = suv > SKIN
    for axis in range(missing.ndim):
        gaps, hot = (np.moveaxis(of, axis, 0) for of in (missing, body))
        if (gaps[:-1] & hot[1:]).any() or (gaps[1:] & hot[:-1]).any():
            lines.append(
                f"voxels of more than SUV {SKIN:g} lie beside some that are no numbers: "
                "is a part of the body missing?"
            )
            break
    suv[missing] = 0
    return lines


def _neighbours(suv: np.ndarray, missing: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether a number comes before each voxel along an axis, and whether the last is above skin.

    Both bool, like the volume. Plane by plane, so that no index of the volume is in memory.
    """
    any_before, hot_before = np.zeros_like(missing), np.zeros_like(missing)
    planes = (np.moveaxis(of, axis, 0) for of in (suv, missing, any_before, hot_before))
    some = hot = np.zeros(1, bool)
    for values, gap, some_out, hot_out in zip(*planes, strict=True):
        some, hot = some | ~gap, np.where(gap, hot, values > SKIN)
        some_out[...], hot_out[...] = some, hot
    return any_before, hot_before


def check_values(suv: np.ndarray) -> None:
    """Raise `ScanError` where the values cannot be SUV, or one of them is no number."""
    highest = float(suv.max())
    mean = float(suv.mean(dtype=np.float64))
    if not (mean >= 0 and 0 < highest <= 1000):  # also where one of them is no number
        raise ScanError(
            f"its values cannot be SUV: mean {mean:.4g}, maximum {highest:.4g} (expected a mean "
            "of at least 0 and a maximum of at most 1,000); if they are Bq/mL, give --suv-factor"
        )


def upright(volume: Volume) -> Upright:
    """Turn a volume of any orientation upright. Raises `ScanError` where it is oblique."""
    matrix = np.asarray(volume.affine, float)[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(volume.affine).all() or (spacing < 1e-3).any():
        raise ScanError("its affine (where the voxels lie in the patient) is singular")
    directions = matrix / spacing
    cosines = np.abs(directions.T @ directions - np.eye(3))
    if cosines.max() > SHEARED:
        raise ScanError(
            "its axes are not at right angles to each other (gantry tilt or a sheared affine)"
        )
    # For each axis of the patient (left, posterior, superior) the axis of the file nearest to it.
    axes = [int(np.abs(directions[patient]).argmax()) for patient in range(3)]
    along = [abs(directions[patient, axis]) for patient, axis in enumerate(axes)]
    degrees = math.degrees(math.acos(min(1.0, min(along))))
    if len(set(axes)) < 3 or degrees > MOST_OBLIQUE:
        raise ScanError(
            f"its axes lie {degrees:.0f} degrees off the patient's (at most {MOST_OBLIQUE:g} are "
            "taken); resample it to the patient's axes first"
        )
    x, y, z = axes
    flips = {axis: directions[patient, axis] < 0 for patient, axis in enumerate(axes)}
    order = (z, y, x)
    flipped = tuple(bool(flips[axis]) for axis in order)
    view = volume.suv.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flipped)]
    # The index, in the file's axes, of the voxel that is 0, 0, 0 of the view.
    corner = np.array([0.0, 0.0, 0.0, 1.0])
    for axis, flip in zip(order, flipped, strict=True):
        corner[axis] = volume.suv.shape[axis] - 1 if flip else 0
    origin = tuple(float(mm) for mm in (volume.affine @ corner)[:3])
    signs = [-1.0 if flip else 1.0 for flip in flipped]
    ours = np.array([directions[:, a] * sign for a, sign in zip(order, signs, strict=True)])
    millimetres = tuple(float(spacing[axis]) for axis in order)
    return Upright(view, millimetres, origin, degrees, ours, order, flipped)
