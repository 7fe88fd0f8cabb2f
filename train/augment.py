"""From cases to a batch: pick a window, then vary geometry and intensity on the device."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.dataset import Case

WINDOW = (512, 256)
"""Height and width in pixels of what the network sees in training; multiples of its stride."""
SOURCE_HEIGHT = 640  # rows cut from a tall image: more, so that rotation finds neighbours
ANGLE = 15.0  # degrees by which images are rotated at most, either way
ZOOM, STRETCH = 0.28, 0.1
"""Largest logarithm of the factor of both sides, and of width against height."""
SHIFT = (16.0, 24.0)  # pixels to the side, and up or down
MIRRORED, FLIPPED = 0.5, 0.05
"""Shares of images. Flipped ones are normalised before the network; a few are misjudged."""
GAMMA, GAIN = (0.74, 1.35), (0.7, 1.57)
"""Ranges of exponent and factor of the uptake, evenly drawn by their logarithm."""
SHARE_OF_GAMMA = SHARE_OF_GAIN = 0.5
SHARE_OF_BLUR, SHARE_OF_RESAMPLED, SHARE_OF_NOISE, SHARE_OF_IMPULSES = 0.15, 0.1, 0.15, 0.08
NOISE, IMPULSES = 0.06, 0.08
"""Largest standard deviation of noise, and largest share of salt-and-pepper pixels."""


def cut(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, float]]:
    """At most SOURCE_HEIGHT rows, uint8 2×h×w (uptake, truth), and the window's centre there:
    in tall images near tumour two times out of three, so that legs do not crowd out lesions."""
    height, width = case.uptake.shape
    row = height / 2
    if height > WINDOW[0]:
        tumour = np.flatnonzero(case.truth.any(axis=1))
        near_lesion = tumour.size and rng.random() < 2 / 3
        row = float(rng.choice(tumour)) if near_lesion else rng.uniform(0, height)
        row += rng.uniform(-0.4, 0.4) * WINDOW[0] if near_lesion else 0
        row = float(np.clip(row, WINDOW[0] / 2, height - WINDOW[0] / 2))
    start = int(np.clip(row - SOURCE_HEIGHT / 2, 0, max(height - SOURCE_HEIGHT, 0)))
    rows = slice(start, start + SOURCE_HEIGHT)
    planes = np.stack([case.uptake[rows], case.truth[rows].view(np.uint8)])
    weight = case.uptake.sum(axis=0, dtype=np.int64)
    midline = (weight @ np.arange(width)) / weight.sum() if weight.any() else width / 2
    return planes, (row - start, float(midline))


def source(cases: list[Case], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What `vary` warps: uint8 N×2×h×w (uptake, truth) and float32 N×2 centres. Images of
    different sizes are filled up with zeros below and to the right."""
    cuts = [cut(case, rng) for case in cases]
    height, width = np.max([planes.shape[1:] for planes, _ in cuts], axis=0)
    planes = np.zeros((len(cuts), 2, height, width), np.uint8)
    for i, (of_one, _) in enumerate(cuts):
        planes[i, :, : of_one.shape[1], : of_one.shape[2]] = of_one
    centres = torch.tensor([centre for _, centre in cuts], dtype=torch.float32)
    return torch.from_numpy(planes), centres


def window_maps(centres: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """N×2 centres (row, column) in images of that height and width -> float32 N×2×3 random maps
    from the window's coordinates (-1..1) to the source's (-1..1)."""
    n = len(centres)
    window = torch.tensor([WINDOW[1], WINDOW[0]], dtype=torch.float32)
    source = torch.tensor([size[1], size[0]], dtype=torch.float32)

    def uniform(most: float) -> Tensor:
        return torch.empty(n).uniform_(-most, most, generator=generator)

    def sign(share: float) -> Tensor:
        return 1 - 2 * (torch.rand(n, generator=generator) < share).float()

    angle = uniform(ANGLE) * math.pi / 180
    zoom, stretch = torch.exp(uniform(ZOOM)), torch.exp(uniform(STRETCH))
    shift = torch.stack([uniform(most) for most in SHIFT], dim=1)
    # In pixels: rotate, scale, flip the window around its centre, then move to the case's centre.
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = sign(MIRRORED) * zoom * stretch, sign(FLIPPED) * zoom / stretch
    rows = [cos * x, -sin * y], [sin * x, cos * y]
    linear = torch.stack([torch.stack(row, 1) for row in rows], 1)
    linear = linear * window / source[:, None]
    offset = (centres.flip(1) + shift) * 2 / source - 1
    return torch.cat([linear, offset[:, :, None]], dim=2)


def vary_intensity(uptake: Tensor, generator: torch.Generator) -> Tensor:
    """Vary float N×1×H×W uptake in 0..1: gamma, gain, blur, resampling, noise, salt and pepper."""
    n, device = len(uptake), uptake.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    def some(share: float) -> Tensor:
        return rand(n, 1, 1, 1) < share

    def factor(low: float, high: float) -> Tensor:
        return low * (high / low) ** rand(n, 1, 1, 1)

    gamma, gain = factor(*GAMMA), factor(*GAIN)
    uptake = torch.where(some(SHARE_OF_GAMMA), uptake.clamp_min(1e-4) ** gamma, uptake)
    # Real MIPs are cut off at the top: upwards their hottest organs stay at 1.
    uptake = torch.where(some(SHARE_OF_GAIN), uptake * gain, uptake)
    mean = F.avg_pool2d(uptake, 3, 1, 1, count_include_pad=False)
    blurred = torch.lerp(uptake, mean, rand(n, 1, 1, 1))
    uptake = torch.where(some(SHARE_OF_BLUR), blurred, uptake)
    resampled = F.interpolate(F.avg_pool2d(uptake, 2), scale_factor=2.0, mode="bilinear")
    uptake = torch.where(some(SHARE_OF_RESAMPLED), resampled, uptake)
    # One field of noise for all images is enough and saves time.
    field = torch.randn(uptake.shape[2:], generator=generator).to(device)
    noisy = uptake + NOISE * rand(n, 1, 1, 1) * field
    uptake = torch.where(some(SHARE_OF_NOISE), noisy, uptake).clamp(0, 1)
    field = rand(*uptake.shape[2:])
    speckled = IMPULSES * rand(n, 1, 1, 1) * some(SHARE_OF_IMPULSES)
    uptake = torch.where(field < speckled / 2, 0.0, uptake)
    return torch.where(field > 1 - speckled / 2, 1.0, uptake)


def vary(
    planes: Tensor, centres: Tensor, scale: float, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What `source` gave -> windows of it, varied.

    float32 N×1×H×W uptake in 0..1 (1 = hottest) and truth in 0..1 (tumour's share of the
    pixel), with H×W = WINDOW × scale: the same field of view whatever the scale, which must keep
    both sides multiples of the network's stride. Every random number comes from `generator` (a CPU
    generator, so that CPU and CUDA draw the same)."""
    count, _, height, width = planes.shape
    maps = window_maps(centres, (height, width), generator).to(device)
    size = [round(side * scale) for side in WINDOW]
    grid = F.affine_grid(maps, [count, 2, *size], align_corners=False)
    planes = planes.to(device, non_blocking=True).float()
    planes = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # Interpolation may end a rounding error above the largest value.
    uptake, truth = (planes[:, :1] / 255).clamp_max(1), planes[:, 1:].clamp_max(1)
    return vary_intensity(uptake, generator), truth
