"""Truth and mask of one image compared lesion by lesion, and boundary to boundary.

A lesion is a group of touching pixels, also by a corner. It is found where the mask has at least
one of its pixels. A group of the mask that touches no lesion is a false-positive lesion.
"""

import numpy as np
from scipy import ndimage

TOUCHING = np.ones((3, 3))
FAILURE = 0.1  # a patient with a Dice below this counts as a failure


def lesions(truth: np.ndarray, mask: np.ndarray) -> tuple[list[int], list[bool], int]:
    """Pixels of each lesion, whether it was found, and the number of false-positive lesions. truth,
    mask: bool H×W."""
    groups, count = ndimage.label(truth, TOUCHING)
    sizes = np.bincount(groups.ravel(), minlength=count + 1)[1:]
    hits = np.bincount(groups[mask], minlength=count + 1)[1:]
    marked, marks = ndimage.label(mask, TOUCHING)
    right = np.unique(marked[truth & mask]).size
    return sizes.tolist(), (hits > 0).tolist(), marks - right


def hausdorff(truth: np.ndarray, mask: np.ndarray, percent: float = 95) -> float | None:
    """From each boundary pixel of one to the nearest of the other, in pixels: the larger of both
    directions' percentiles, None where truth or mask, bool H×W, is empty."""
    if not truth.any() or not mask.any():
        return None
    edges = [pixels & ~ndimage.binary_erosion(pixels) for pixels in (truth, mask)]
    distances = [ndimage.distance_transform_edt(~b)[a] for a, b in (edges, edges[::-1])]
    return float(max(np.percentile(distance, percent) for distance in distances))
