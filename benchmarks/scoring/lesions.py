"""What researchers ask about a mask beside its Dice, for one image.

A lesion is a group of touching pixels, also by a corner. It is found where the mask has at least
one pixel of it. A group of the mask that touches no lesion is a false-positive lesion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tumour_segmenter import contract

TOUCHING = np.ones((3, 3))


@dataclass(frozen=True)
class Losses:
    """Three parts of one image's 1 - Dice, which add up to it.

    missed: what would be gained if each lesion that was not found were marked exactly;
    false: what would then be gained without the false-positive lesions; boundary: the rest.
    """

    missed: float
    false: float
    boundary: float


@dataclass(frozen=True)
class Agreement:
    """Truth and mask of one image, lesion by lesion.

    sizes: pixels of each true lesion; found: whether it was, in the same order; false_lesions: how
    many groups of the mask touch no lesion; hausdorff: pixels, None where truth or mask is empty.
    """

    sizes: tuple[int, ...]
    found: tuple[bool, ...]
    false_lesions: int
    hausdorff: float | None
    losses: Losses


def agreement(truth: np.ndarray, mask: np.ndarray) -> Agreement:
    """Compare truth and mask, both H×W, nonzero = tumour."""
    truth, mask = truth > 0, mask > 0
    lesions, count = ndimage.label(truth, TOUCHING)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    overlap = np.bincount(lesions[mask], minlength=count + 1)[1:]
    _, false_lesions = ndimage.label(mask & ~_touching(mask, truth), TOUCHING)
    return Agreement(
        tuple(sizes.tolist()),
        tuple((overlap > 0).tolist()),
        false_lesions,
        hausdorff(truth, mask),
        losses(truth, mask),
    )


def losses(truth: np.ndarray, mask: np.ndarray) -> Losses:
    """What the Dice of one image is lost to; truth, mask: bool H×W."""
    found = mask | (truth & ~_touching(truth, mask))
    clean = found & _touching(found, truth)
    dice = [contract.dice(truth, marked) for marked in (mask, found, clean)]
    return Losses(dice[1] - dice[0], dice[2] - dice[1], 1 - dice[2])


def hausdorff(truth: np.ndarray, mask: np.ndarray, percent: float = 95) -> float | None:
    """The Hausdorff distance in pixels at a percentile, None where truth or mask is empty.

    truth, mask: bool H×W. Of each boundary pixel of either the distance to the other's nearest;
    the percentile of both directions is taken, and the larger one counts.
    """
    if not truth.any() or not mask.any():
        return None
    rows, columns = np.nonzero(truth | mask)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    edges = [_boundary(pixels[box]) for pixels in (truth, mask)]
    distances = [
        ndimage.distance_transform_edt(~there)[here] for here, there in (edges, reversed(edges))
    ]
    return float(max(np.percentile(distance, percent) for distance in distances))


def _boundary(pixels: np.ndarray) -> np.ndarray:
    """The pixels of a mask, bool H×W, that have one outside of it above, below or beside."""
    return pixels & ~ndimage.binary_erosion(pixels)


def _touching(pixels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Those of `pixels`, bool H×W, whose group has one of `others`."""
    groups, _ = ndimage.label(pixels, TOUCHING)
    return pixels & np.isin(groups, groups[pixels & others])
