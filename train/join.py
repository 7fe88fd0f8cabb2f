"""Two people put together into one who has the upper body of one and the lower body of the other.

A cut across two images, as in CutMix (Yun et al. 2019, arXiv 1905.04899), but one that keeps the
anatomy: scans begin at the head and are centred, so the same row meets about the same organ. There
are far more such people than patients, and none of them can be known by heart.
"""

import numpy as np

from train.dataset import Case

ROWS = (0.15, 0.85)
"""Between which shares of the shorter image's height the cut lies."""


def join(one: Case, other: Case, rng: np.random.Generator) -> Case:
    """The upper body of either with the lower body of the other, cut at a random row.

    Neither is changed. Images of different widths are not put together: `one` is returned.
    """
    if one.uptake.shape[1] != other.uptake.shape[1]:
        return one
    upper, lower = (one, other) if rng.random() < 0.5 else (other, one)
    row = int(rng.uniform(*ROWS) * min(len(one.uptake), len(other.uptake)))
    return Case(
        one.name,
        np.concatenate([upper.uptake[:row], lower.uptake[row:]]),
        np.concatenate([upper.truth[:row], lower.truth[row:]]),
    )
