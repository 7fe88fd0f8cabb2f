"""What a Dice is lost to: lesions that were missed, lesions that are none, or outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from serve import contract

TOUCHING = np.ones((3, 3))  # pixels that share a corner belong to one lesion


@dataclass(frozen=True)
class Lost:
    """Three parts of one image's 1 - Dice, which add up to it.

    missed: what would be gained if each lesion of which no pixel was found were drawn as it is;
    false: what would then be gained without what touches no lesion; outlines: the rest.
    """

    missed: float
    false: float
    outlines: float


def lost(truth: np.ndarray, mask: np.ndarray) -> Lost:
    """truth, mask: H×W, nonzero = tumour."""
    truth, mask = truth > 0, mask > 0
    found = mask | (truth & ~_groups_with(truth, mask))
    clean = found & _groups_with(found, truth)
    dice = [contract.dice(truth, drawn) for drawn in (mask, found, clean)]
    return Lost(dice[1] - dice[0], dice[2] - dice[1], 1 - dice[2])


def _groups_with(pixels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Those of `pixels`, bool H×W, whose group of touching pixels has one of `others`."""
    groups, _ = ndimage.label(pixels, TOUCHING)
    return pixels & np.isin(groups, groups[pixels & others])
