"""What is measured in a mask: its lesions, each with area, uptake and its hottest voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tumour_segmenter.lesions import label

from .mip import Projection
from .volume import Upright


@dataclass(frozen=True)
class Lesion:
    """A group of mask pixels that touch, corners included.

    suv_max: of the voxels of the volume that its rays meet; suv_mean: of the projection's pixels;
    centroid_mm: (down, right) from the middle of the image's first pixel; voxel: index of the
    hottest voxel in the file's own axes (DICOM: slice from the first position along the normal,
    row, column); uid: SOP Instance UID of its slice, None for NIfTI; probability: the highest and
    the mean of its pixels, calibrated, 0..1, None where the model outputs none.
    """

    id: int
    area_mm2: float
    suv_max: float
    suv_mean: float
    centroid_mm: tuple[float, float]
    voxel: tuple[int, int, int]
    uid: str | None
    probability: tuple[float, float] | None = None


def measure(
    mask: np.ndarray,
    view: Projection,
    body: Upright,
    uids: Sequence[str] = (),
    probability: np.ndarray | None = None,
) -> list[Lesion]:
    """Measure the lesions of `mask`, H×W like `view`, nonzero = tumour; from the top down.

    probability: uint8 H×W, 255 p.
    """
    labels, count = label(mask)
    pixel = view.pixel_mm
    lesions = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(labels == number)
        voxel, hottest = _hottest(labels == number, view, body)
        lesions.append(
            Lesion(
                number,
                len(rows) * pixel[0] * pixel[1],
                hottest,
                float(view.suv[rows, columns].mean(dtype=np.float64)),
                (float(rows.mean() * pixel[0]), float(columns.mean() * pixel[1])),
                voxel,
                uids[voxel[0]] if uids else None,
                None if probability is None else _sure(probability[rows, columns] / 255),
            )
        )
    return lesions


def _sure(probability: np.ndarray) -> tuple[float, float]:
    return float(probability.max()), float(probability.mean())


def _hottest(
    inside: np.ndarray, view: Projection, body: Upright
) -> tuple[tuple[int, int, int], float]:
    """The hottest voxel that the rays of a lesion meet: index in the file's axes, and SUV.

    inside: bool like the image.
    """
    rows, columns = np.nonzero(inside)
    slices, across = view.slices[rows], view.columns[columns]
    met = inside[view.row_of_slice][:, view.column_of_column]
    met[view.row_of_slice < 0], met[:, view.column_of_column < 0] = False, False
    met[slices[across >= 0], across[across >= 0]] = True
    if not met.any():  # a mask in the padding beside the volume: its edge
        met[slices, 0] = True
    at = np.unravel_index(np.where(met, view.native, -np.inf).argmax(), met.shape)
    slice_, column = int(at[0]), int(at[1])
    voxel = body.own_index(slice_, int(view.depth[slice_, column]), column)
    return voxel, float(view.native[slice_, column])


def largest_distance(lesions: Sequence[Lesion]) -> float:
    """Return mm between the centroids of the two lesions farthest apart, 0.0 for fewer than two."""
    centroids = np.array([lesion.centroid_mm for lesion in lesions])
    pairs = combinations(range(len(centroids)), 2)
    return max((float(np.linalg.norm(centroids[i] - centroids[j])) for i, j in pairs), default=0.0)
