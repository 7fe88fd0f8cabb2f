"""The geometry of the challenge's projections, and how a volume is sampled to it.

Derived once from the training images (docs/scans.md): 400 columns of 2.036 mm, rows of 2 mm
that begin at the lowest slice, cubic between slices, then the maximum from front to back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

COLUMNS = 400
COLUMN_MM, ROW_MM = 2.036, 2.0
SUV_BLACK = 7.0
LEAST = 1e-9  # a weight that is rounding
SAME_GRID = 0.1  # pixels that the outermost sample may be off, to be taken as it is


@dataclass(frozen=True)
class Taps:
    """Of each output sample its inputs: index int [outputs, taps], weight float32 likewise.

    Weights sum to 1, or to 0 where the output lies outside the inputs.
    """

    index: np.ndarray
    weight: np.ndarray

    def bounded(self, samples: np.ndarray, axis: int, output: int) -> np.ndarray:
        """Return one output: the samples along `axis`, weighted, within the range of those nearby.

        Nearby are those of a weight above 0. A cubic kernel alone overshoots: beside a step it
        shows an uptake that no voxel has.
        """
        used = np.flatnonzero(self.weight[output])
        parts = [samples.take(self.index[output, k], axis) for k in used]
        if len(parts) == 1:
            return parts[0]
        weights = self.weight[output, used]
        near = [part for part, weight in zip(parts, weights, strict=True) if weight > 0]
        total = sum(part * weight for part, weight in zip(parts, weights, strict=True))
        return np.clip(total, np.minimum.reduce(near), np.maximum.reduce(near))

    def nearest(self) -> np.ndarray:
        """Of each output the input that weighs most, int [outputs]; -1 outside."""
        best = self.weight.argmax(axis=1)
        index = self.index[np.arange(len(best)), best]
        return np.where(self.weight.sum(axis=1) > 0, index, -1)

    def outputs(self, inputs: int) -> np.ndarray:
        """Of each of `inputs` the output in which it weighs most, int [inputs]; -1 for none."""
        order = np.argsort(self.weight, axis=None, kind="stable")
        order = order[self.weight.ravel()[order] > 0]
        best = np.full(inputs, -1)
        best[self.index.ravel()[order]] = order // self.weight.shape[1]  # the last one stays
        return best


def taps(places: np.ndarray, inputs: int, wide: float) -> Taps:
    """Cubic interpolation at `places`, in units of the inputs' spacing, of `inputs` samples.

    wide: by how much the kernel is widened, 1 for plain interpolation and more where the outputs
    are coarser than the inputs, so that no input falls between them. Beyond half an input from
    the first or the last there is nothing.
    """
    reach = math.ceil(2 * wide)
    index = np.floor(places).astype(int)[:, None] + np.arange(1 - reach, reach + 1)
    weight = _cubic((index - places[:, None]) / wide)
    weight[(index < 0) | (index >= inputs)] = 0
    weight[np.abs(weight) < LEAST] = 0
    total = weight.sum(axis=1, keepdims=True)
    inside = (places[:, None] >= -0.5 - 1e-6) & (places[:, None] <= inputs - 0.5 + 1e-6)
    weight = np.where(inside & (total > 0), weight / np.where(total > 0, total, 1), 0)
    return Taps(np.clip(index, 0, inputs - 1), weight.astype(np.float32))


def _cubic(x: np.ndarray) -> np.ndarray:
    """The kernel of Catmull and Rom: 1 at 0, and 0 at every other whole number."""
    x = np.abs(x)
    near, far = 1 + x * x * (1.5 * x - 2.5), 2 + x * (-4 + x * (2.5 - 0.5 * x))
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def column_places(inputs: int, spacing: float) -> np.ndarray:
    """Where the challenge's 400 columns lie among `inputs` of `spacing` mm, with the same centre.

    In units of the inputs' spacing, from the first: float [400].
    """
    step = COLUMN_MM / spacing
    if abs(step - 1) * min(inputs, COLUMNS) / 2 < SAME_GRID:
        step = 1.0
    middle = (inputs - 1) / 2
    if step == 1.0 and (inputs - COLUMNS) % 2:
        middle += 0.5  # half a pixel aside, rather than every pixel the mean of two
    return middle + (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * step


def column_taps(inputs: int, spacing: float) -> Taps:
    """Of `inputs` columns of `spacing` mm the challenge's 400."""
    places = column_places(inputs, spacing)
    return taps(places, inputs, max(1.0, float(places[1] - places[0])))


def row_taps(inputs: int, spacing: float) -> Taps:
    """Of `inputs` slices of `spacing` mm, from the feet up, rows of 2 mm from the feet up.

    As in the challenge, the last row may lie above the last slice by less than 2 mm; it repeats it.
    """
    step = ROW_MM / spacing
    if abs(step - 1) * inputs < SAME_GRID:
        step = 1.0
    rows = math.ceil((inputs - 1) / step - 1e-6) + 1
    places = np.minimum(np.arange(rows) * step, inputs - 1)
    return taps(places, inputs, max(1.0, step))
