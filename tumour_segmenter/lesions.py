"""The lesions of a mask, and how far a mask agrees with the truth, lesion by lesion.

A lesion is a group of touching pixels, also by a corner. It is found where the mask has at least
one of its pixels. A group of the mask that touches no lesion is a false-positive lesion.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FAILURE = 0.1  # a patient with a Dice below this counts as a failure
PAIRS_AT_ONCE = 2_000_000  # of boundary pixels, whose distances are in memory


class Compared(NamedTuple):
    """The lesions of the truth in the order of `label`, and what the mask has beside them."""

    sizes: tuple[int, ...]  # pixels of each lesion
    found: tuple[bool, ...]  # whether it was
    false_lesions: int


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return (int32 H×W, count): 1 to count for the lesions of `mask`, H×W, 0 where it is 0.

    They are numbered by their first pixels, row by row.
    """
    marked = mask != 0
    steps = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, columns = np.nonzero(steps)
    # Each row is a list of runs: from `starts` up to, and without, `ends`.
    lengths = columns[1::2] - columns[::2]
    rows, starts, ends = rows[::2].tolist(), columns[::2].tolist(), columns[1::2].tolist()
    parents = list(range(len(rows)))  # of each run; never a later one

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    above = 0  # the first run of the row above that can touch the run at hand
    for run, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] < starts[run]):
            above += 1
        other = above
        while rows[other] == row - 1 and starts[other] <= ends[run]:
            first, second = sorted((root(other), root(run)))
            parents[second] = first
            other += 1
    roots, numbers = np.unique([root(run) for run in range(len(rows))], return_inverse=True)
    labels = np.zeros(marked.shape, np.int32)
    labels[marked] = np.repeat(numbers + 1, lengths)
    return labels, len(roots)


def compare(truth: np.ndarray, mask: np.ndarray) -> Compared:
    """Compare `truth` and `mask`, both H×W, nonzero = tumour, lesion by lesion."""
    lesions, count = label(truth)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    overlap = np.bincount(lesions[mask != 0], minlength=count + 1)[1:]
    marks, marked = label(mask)
    right = np.unique(marks[(truth != 0) & (mask != 0)]).size
    return Compared(tuple(sizes.tolist()), tuple((overlap > 0).tolist()), marked - right)


def touching(pixels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return those of `pixels` whose lesion has one of `others`; all bool H×W."""
    groups, _ = label(pixels)
    return pixels & np.isin(groups, groups[pixels & others])


def hausdorff(truth: np.ndarray, mask: np.ndarray, percent: float = 95) -> float | None:
    """Return the Hausdorff distance in pixels at a percentile, None where truth or mask is empty.

    truth, mask: H×W, nonzero = tumour. Of each boundary pixel of either the distance to the other's
    nearest; the percentile of both directions is taken, and the larger one counts.
    """
    if not truth.any() or not mask.any():
        return None
    one, other = _boundary(truth != 0), _boundary(mask != 0)
    distances = [_nearest(one, other), _nearest(other, one)]
    return float(max(np.percentile(distance, percent) for distance in distances))


def _boundary(pixels: np.ndarray) -> np.ndarray:
    """Return (row, column) of the pixels that have one outside above, below or beside them."""
    padded = np.pad(pixels, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(pixels & ~inside).astype(np.int32)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return float (points,): the distance from each to the nearest of `others`."""
    pieces = np.array_split(points, 1 + len(points) * len(others) // PAIRS_AT_ONCE)
    squares = [
        sum(np.subtract.outer(piece[:, axis], others[:, axis]) ** 2 for axis in (0, 1)).min(axis=1)
        for piece in pieces
        if len(piece)
    ]
    return np.sqrt(np.concatenate(squares))
