"""An upright volume in SUV -> the projection that the model gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tumour_segmenter.contract import MAX_PIXELS

from .errors import ScanError
from .geometry import COLUMN_MM, ROW_MM, Taps, column_taps, row_taps
from .volume import Upright

BODY_SUV = 0.3  # more is body rather than air
LEAST_WIDTH = 100  # mm
LEAST_OUTSIDE = 20  # pixels of body outside the image that are worth a warning


@dataclass(frozen=True)
class Projection:
    """suv: float32 [rows, 400], head up, the patient's left on the right; pixels: uint8 likewise.

    native, depth: maximum of each ray of the volume itself, float32 [slices, columns] from the
    feet and the right, and the row (from anterior) where it lies. slices, columns: of each row and
    column of the image the nearest of those, -1 outside. row_of_slice, column_of_column: the other
    way round. Where voxels are finer than pixels several have the same, and where they are coarser
    some pixels are nobody's, so that both are needed to say which voxels a pixel shows.
    """

    suv: np.ndarray
    pixels: np.ndarray
    native: np.ndarray
    depth: np.ndarray
    slices: np.ndarray
    columns: np.ndarray
    row_of_slice: np.ndarray
    column_of_column: np.ndarray
    body_outside: bool

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """(rows, columns): how far apart the image's pixels are."""
        return ROW_MM, COLUMN_MM


def project(body: Upright, black: float) -> Projection:
    """Project a volume as the challenge did: the maximum from front to back, on a fixed scale.

    black: the SUV that is black, grey 0; SUV 0 is white, 255. Raises `ScanError` where the image
    would be larger than what the model takes.
    """
    slices, _, columns = body.suv.shape
    if (width := columns * body.spacing[2]) < LEAST_WIDTH:
        raise ScanError(f"it is {width:.3g} mm wide, which is no patient; are its units right?")
    down, across = row_taps(slices, body.spacing[0]), column_taps(columns, body.spacing[2])
    if down.index.shape[0] * across.index.shape[0] > MAX_PIXELS:
        raise ScanError(f"it is {slices * body.spacing[0] / 1000:.1f} m long, which is no patient")
    suv = np.empty((down.index.shape[0], across.index.shape[0]), np.float32)
    for row in range(len(suv)):
        # From the feet up; the image has the head first.
        plane = down.bounded(body.suv, 0, row)
        suv[len(suv) - 1 - row] = _resampled(plane, across).max(axis=0)
    np.maximum(suv, 0, out=suv)
    native, depth = _rays(body.suv)
    columns_of = across.nearest()
    return Projection(
        suv,
        grey(suv, black),
        native,
        depth,
        down.nearest()[::-1],
        columns_of,
        _flipped(down.outputs(slices), len(suv)),
        across.outputs(columns),
        _body_outside(native, columns_of),
    )


def grey(suv: np.ndarray, black: float) -> np.ndarray:
    """SUV -> grey, uint8: 255 is SUV 0, 0 is `black` and more."""
    return 255 - np.round(255 * np.clip(suv / np.float32(black), 0, 1)).astype(np.uint8)


def _resampled(plane: np.ndarray, across: Taps) -> np.ndarray:
    """[depth, columns] -> [depth, 400], within the range of the columns nearby; 0 outside."""
    total = np.zeros((len(plane), len(across.index)), np.float32)
    low, high = np.full_like(total, np.inf), np.full_like(total, -np.inf)
    for index, weight in zip(across.index.T, across.weight.T, strict=True):
        if not weight.any():
            continue
        part = plane[:, index]
        near = weight > 0
        total += part * weight
        np.minimum(low, part, out=low, where=near)
        np.maximum(high, part, out=high, where=near)
    return np.clip(total, low, high, out=total, where=np.isfinite(high))


def _flipped(rows: np.ndarray, height: int) -> np.ndarray:
    return np.where(rows < 0, -1, height - 1 - rows)


def _rays(suv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slice by slice, so that no second volume is ever in memory."""
    native = np.empty((suv.shape[0], suv.shape[2]), np.float32)
    depth = np.empty(native.shape, np.int32)
    for k, plane in enumerate(suv):
        depth[k] = plane.argmax(axis=0)
        native[k] = np.take_along_axis(plane, depth[k][None], axis=0)[0]
    return native, depth


def _body_outside(native: np.ndarray, columns: np.ndarray) -> bool:
    shown = columns[columns >= 0]
    outside = np.ones(native.shape[1], bool)
    outside[shown.min() : shown.max() + 1] = False
    return int((native[:, outside] > BODY_SUV).sum()) >= LEAST_OUTSIDE
