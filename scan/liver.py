"""Finds the liver in a projection: the organ whose uptake is known and even."""

from __future__ import annotations

import numpy as np

from .mip import Projection

LIVER_MM = 48


def liver_suv(view: Projection) -> float | None:
    """Return the SUV of the liver in the projection: of its most even hot square of 48 mm.

    Looked for on the patient's right, from 18 to 66 cm below the crown or the upper edge. None
    where the image is too small.
    """
    found = liver_region(view.suv, view.pixel_mm, saturated=np.inf)
    return None if found is None else float(view.suv[found].mean())


def liver_region(
    uptake: np.ndarray, pixel_mm: tuple[float, float], saturated: float, body: float = 0.4
) -> tuple[slice, slice] | None:
    """Return where the liver lies in a projection: the square with the highest mean - 2 SD.

    uptake: [rows, columns], head up; squares of a mean above `saturated` are no liver; body: more
    is body. None where there is no room for a square.
    """
    height, width = (round(LIVER_MM / mm) for mm in pixel_mm)
    inside = uptake > body
    weights = inside.sum(axis=0)
    if not weights.any():
        return None
    middle = int(np.average(np.arange(uptake.shape[1]), weights=weights))
    top = round(180 / pixel_mm[0])
    bottom = min(len(uptake), round(660 / pixel_mm[0]))
    left, right = max(0, middle - round(142 / pixel_mm[1])), middle - round(16 / pixel_mm[1])
    part = uptake[top:bottom, left:right].astype(np.float64)
    if part.shape[0] < height or part.shape[1] < width:
        return None
    mean, square = (_box_means(values, height, width) for values in (part, part**2))
    score = mean - 2 * np.sqrt(np.maximum(square - mean**2, 0))
    score[mean > saturated] = -np.inf
    if score.max() <= body:
        return None
    row, column = np.unravel_index(score.argmax(), score.shape)
    row, column = int(row) + top, int(column) + left
    return slice(row, row + height), slice(column, column + width)


def _box_means(values: np.ndarray, height: int, width: int) -> np.ndarray:
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    h, w = height, width
    return (sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]) / (h * w)
