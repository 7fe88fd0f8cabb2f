"""From cases to a batch: pick a window, then vary geometry and intensity on the device."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.dataset import Case

WINDOW = (512, 256)
"""Height and width in pixels of what the network sees in training; multiples of its stride."""
SOURCE_HEIGHT = 640
"""Rows cut from a tall image before it is warped, so that rotation finds its neighbours."""


def cut(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, float]]:
    """Cut at most SOURCE_HEIGHT rows; return uint8 2×h×w (uptake, truth × 255) and a centre.

    The centre (row, column in the cut) is where the window goes. In a tall image, it is a tumour
    pixel's row two times out of three, so that legs do not crowd out lesions.
    """
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
    planes = np.stack([case.uptake[rows], case.truth[rows].view(np.uint8) * np.uint8(255)])
    weight = case.uptake.sum(axis=0, dtype=np.int64)
    midline = (weight @ np.arange(width)) / weight.sum() if weight.any() else width / 2
    return planes, (row - start, float(midline))


def _window_maps(
    centres: Tensor, size: tuple[int, int], geometry: float, generator: torch.Generator
) -> Tensor:
    """N×2×3 maps from the window's coordinates (-1..1) to the source's (-1..1).

    geometry: multiplies the widest angle, zoom and stretch.
    """
    n = len(centres)
    window = torch.tensor([WINDOW[1], WINDOW[0]], dtype=torch.float32)
    source = torch.tensor([size[1], size[0]], dtype=torch.float32)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n).uniform_(low, high, generator=generator)

    def flip(share: float) -> Tensor:
        return 1 - 2 * (torch.rand(n, generator=generator) < share).float()

    angle = geometry * uniform(-9, 9) * math.pi / 180
    zoom = torch.exp(geometry * uniform(-0.2, 0.2))
    stretch = torch.exp(geometry * uniform(-0.07, 0.07))
    shift = torch.stack([uniform(-16, 16), uniform(-24, 24)], dim=1)
    mirror, upside_down = flip(0.5), flip(0.05)
    # In pixels: rotate, scale, flip the window around its centre, then move to the case's centre.
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = mirror * zoom * stretch, upside_down * zoom / stretch
    linear = torch.stack(
        [torch.stack([cos * x, -sin * y], 1), torch.stack([sin * x, cos * y], 1)], 1
    )
    offset = centres.flip(1) + shift
    linear = linear * window / source[:, None]
    offset = offset * 2 / source - 1
    return torch.cat([linear, offset[:, :, None]], dim=2)


def _intensity(uptake: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Vary N×1×H×W uptake in 0..1: gamma, gain, blur, Gaussian and salt-and-pepper noise.

    share: of the images whose gamma, and of those whose gain, is changed.
    """
    n, device = len(uptake), uptake.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def some(share: float) -> Tensor:
        return (rand(n, 1, 1, 1) < share).to(device)

    gamma = torch.exp((rand(n, 1, 1, 1) - 0.5) * 0.6).to(device)
    uptake = torch.where(some(share), uptake.clamp_min(1e-4) ** gamma, uptake)
    # Mostly upwards: real MIPs are cut off at the top, so their hottest organs stay at 1.
    gain = torch.exp((rand(n, 1, 1, 1) - 0.2) * 0.5).to(device)
    uptake = torch.where(some(share), uptake * gain, uptake)
    uptake = torch.where(some(0.1), F.avg_pool2d(uptake, 3, 1, 1), uptake)
    # One field of noise, rolled by a random amount for each image, is enough and saves time.
    field = torch.randn(uptake.shape[2:], generator=generator).to(device)
    sigma = (rand(n, 1, 1, 1) * 0.06).to(device)
    uptake = torch.where(some(0.15), uptake + sigma * field, uptake).clamp(0, 1)
    field = rand(*uptake.shape[2:]).to(device)
    speckled = (rand(n, 1, 1, 1) * 0.08).to(device) * some(0.08)
    uptake = torch.where(field < speckled / 2, 0.0, uptake)
    return torch.where(field > 1 - speckled / 2, 1.0, uptake)


def source(cases: list[Case], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What `make_batch` warps: uint8 N×2×h×w (uptake, truth × 255) and float32 N×2 centres.

    Images of different sizes are filled up with zeros below and to the right.
    """
    cuts = [cut(case, rng) for case in cases]
    height = max(planes.shape[1] for planes, _ in cuts)
    width = max(planes.shape[2] for planes, _ in cuts)
    planes = np.zeros((len(cuts), 2, height, width), np.uint8)
    for i, (of_one, _) in enumerate(cuts):
        planes[i, :, : of_one.shape[1], : of_one.shape[2]] = of_one
    centres = torch.tensor([centre for _, centre in cuts], dtype=torch.float32)
    return torch.from_numpy(planes), centres


def make_batch(
    planes: Tensor,
    centres: Tensor,
    scale: float,
    intensity: float,
    geometry: float,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Window and vary what `source` gave.

    Returns float32 N×1×H×W uptake in 0..1 (1 = hottest) and truth in 0..1 (tumour's share of the
    pixel), with H×W = WINDOW × scale: the same field of view whatever the scale, which must keep
    both sides multiples of the network's stride. `intensity` is the share of images whose gamma,
    and of those whose gain, is changed; `geometry` multiplies how far images are turned, enlarged
    and stretched (1: 9°, a fifth, a fourteenth). Every random number comes from `generator` (a CPU
    generator, so that CPU and CUDA draw the same).
    """
    count, _, height, width = planes.shape
    maps = _window_maps(centres, (height, width), geometry, generator).to(device)
    size = [round(side * scale) for side in WINDOW]
    grid = F.affine_grid(maps, [count, 2, *size], align_corners=False)
    planes = planes.to(device, non_blocking=True).float()
    planes = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # Interpolation may end a rounding error above the largest value.
    planes = (planes / 255).clamp_max(1)
    uptake, truth = planes[:, :1], planes[:, 1:]
    return _intensity(uptake, intensity, generator), truth
