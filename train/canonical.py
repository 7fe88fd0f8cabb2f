"""What is normalised before the network sees an image: impulse noise, orientation, air.

Salt and pepper is filtered out, and vertically flipped bodies are flipped back, so the network
need not learn either. The air beside the body, two fifths of an image, is left out.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.dataset import Case

LEAST_IMPULSE = 40  # grey levels by which salt or pepper stands out from its neighbours' median
ROWS, COLUMNS = 16, 8  # of the thumbnail that tells which way up a body is
CELL = 8  # pixels, in each direction, whose mean is taken before the thumbnail is made
RIDGE = 0.1
BUSY, BUSY_PIXELS = 10, 6  # a body column has that many pixels of more than that uptake
MARGIN = 8  # columns of air that are kept on either side


def _median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def without_impulses(uptake: Tensor) -> Tensor:
    """N×1×H×W uint8 uptake; pixels of 0 or 255 that stand out by more than LEAST_IMPULSE are
    replaced: by the median of three columns of the medians of three rows, cheaper than that of all
    nine."""
    x = F.pad(uptake, (1, 1, 1, 1), mode="replicate")
    x = _median_of_three(x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:])
    median = _median_of_three(x[..., :-2], x[..., 1:-1], x[..., 2:])
    pepper = (uptake == 0) & (median > LEAST_IMPULSE)
    salt = (uptake == 255) & (median < 255 - LEAST_IMPULSE)
    return torch.where(pepper | salt, median, uptake)


def top_minus_bottom(uptake: Tensor) -> Tensor:
    """N×1×H×W uint8 uptake -> N×(ROWS/2·COLUMNS): thumbnail minus flipped thumbnail, upper half. It
    changes its sign when the image is vertically flipped, and stays when it is mirrored."""
    height, width = uptake.shape[-2:]
    down, right = -height % CELL, -width % CELL
    x = F.pad(uptake, (right // 2, right - right // 2, down // 2, down - down // 2))
    # Sums, rows first: onnxruntime takes several times as long to pool one channel.
    x = x.float().unflatten(2, (-1, CELL)).sum(3).unflatten(3, (-1, CELL)).sum(4)
    x = x / (255 * CELL**2)
    x = F.interpolate(x, (ROWS, COLUMNS), mode="bilinear", align_corners=False)
    x = x + x.flip(3)
    return (x - x.flip(2))[:, :, : ROWS // 2].flatten(1)


class Upright(nn.Module):
    """Flips vertically flipped bodies back, and what was predicted on them again."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights))

    def flipped(self, uptake: Tensor) -> Tensor:
        """1×1×H×W uint8 uptake -> bool [1]."""
        return (top_minus_bottom(uptake) * self.weights).sum(1) < 0

    @staticmethod
    def turn(image: Tensor, flipped: Tensor) -> Tensor:
        """1×1×H×W; flipped: bool [1]. Which rows to take is chosen, not which of two images, as
        that is a copy of whole rows."""
        rows = torch.arange(image.shape[2], device=image.device)
        return image.index_select(2, torch.where(flipped, rows.flip(0), rows))


def learn_upright(cases: list[Case]) -> list[float]:
    """Weights such that the weighted sum over `top_minus_bottom` of each case is about 1, so that
    of a flipped one, whose features are the negative ones, about -1: ridge regression."""
    images = (torch.from_numpy(case.uptake)[None, None] for case in cases)
    features = np.concatenate([top_minus_bottom(i).numpy() for i in images]).astype(np.float64)
    inner = features.T @ features + RIDGE * np.eye(features.shape[1])
    return np.linalg.solve(inner, features.sum(axis=0)).astype(np.float32).tolist()


def body_columns(uptake: Tensor) -> tuple[Tensor, Tensor]:
    """1×1×H×W uint8 uptake -> first column of the body with its margin, and the one behind its
    last. int64 [1] each, 0 <= first < last <= W; all columns where there is no body."""
    width = uptake.shape[3]
    busy = (uptake > BUSY).float().sum(dim=(0, 1, 2)) >= BUSY_PIXELS  # int64 takes longer
    column = torch.arange(width, device=uptake.device)
    body = busy.any(dim=0, keepdim=True)
    first = torch.where(busy, column, width).amin(dim=0, keepdim=True) - MARGIN
    last = torch.where(busy, column, 0).amax(dim=0, keepdim=True) + 1 + MARGIN
    return torch.where(body, first, 0).clamp_min(0), torch.where(body, last, width).clamp_max(width)
