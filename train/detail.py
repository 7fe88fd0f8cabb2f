"""Logits after the network: detail finer than its half resolution, and rows that belong together.

Enlarged logits are smoother than outlines. What stands out of its surroundings, in logits and
uptake, is added (unsharp masking), by numbers that were chosen on out-of-fold patients.

An image has three rows for every two slices of the scan. Labels were drawn slice by slice, then
enlarged to the nearest row: none of the challenge's 145 has an outline between two rows that
`same_slice` derives, from the height, to be of one slice.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SURROUNDINGS = 5  # height and width in pixels, odd
UPTAKE = 3.0  # logits that an uptake of 1 counts for beside them
LEAST = -4.0  # lower logits count as this one: what is most likely healthy becomes no sharper
ROWS = 3  # of two slices: one has a pair of them, the other the third


def with_detail(logits: Tensor, uptake: Tensor) -> Tensor:
    """N×1×H×W logits and uptake in 0..1 -> logits of the same shape."""
    both = logits.clamp_min(LEAST) + UPTAKE * uptake
    height, width = both.shape[-2:]
    # Sums of shifted images: onnxruntime takes seventeen times as long to pool one channel.
    mean = F.pad(both, (SURROUNDINGS // 2,) * 4, mode="replicate")
    mean = sum(mean[:, :, i : i + height] for i in range(SURROUNDINGS))
    mean = sum(mean[..., i : i + width] for i in range(SURROUNDINGS)) / SURROUNDINGS**2
    return logits + both - mean


def same_slice(height: int) -> Tensor:
    """int64 [height]: of each row the other row of its slice, or itself where there is none.

    N slices make ⌊1.5 N⌋ rows, and row r from below is of slice ⌊(r + 0.5) N / rows⌋. So pairs
    begin at rows 0, 3, 6... from above, or at 1, 4, 7... where a row is over; no number of slices
    makes a height of 3 K + 2, where every row is by itself."""
    row = torch.arange(height)
    over = torch.full_like(row, height) % ROWS
    place = (row - over) % ROWS
    return torch.where(over > 1, row, row + (place == 0).long() - (place == 1).long())


def kept_by(labels: Iterable[np.ndarray]) -> bool:
    """Whether none of the labels, bool H×W, has an outline between two rows of one slice."""
    return all((label == label[same_slice(len(label)).numpy()]).all() for label in labels)


def mean_of_slices(logits: Tensor) -> Tensor:
    """N×C×H×W of upright images -> the same, where the rows of a slice have their mean."""
    return (logits + logits[:, :, same_slice(logits.shape[2])]) / 2
