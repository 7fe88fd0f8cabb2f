"""What the Dice of one image is lost to: missed lesions, false-positive lesions, boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tumour_segmenter import contract
from tumour_segmenter.lesions import touching


@dataclass(frozen=True)
class Losses:
    """Three parts of one image's 1 - Dice, which add up to it.

    missed: what would be gained if each lesion that was not found were marked exactly;
    false: what would then be gained without the false-positive lesions; boundary: the rest.
    """

    missed: float
    false: float
    boundary: float


def losses(truth: np.ndarray, mask: np.ndarray) -> Losses:
    """What the Dice of one image is lost to; truth, mask: H×W, nonzero = tumour."""
    truth, mask = truth != 0, mask != 0
    found = mask | (truth & ~touching(truth, mask))
    clean = found & touching(found, truth)
    dice = [contract.dice(truth, marked) for marked in (mask, found, clean)]
    return Losses(dice[1] - dice[0], dice[2] - dice[1], 1 - dice[2])
