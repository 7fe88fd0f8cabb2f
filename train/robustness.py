"""What scorers and scanners do to images, and what it does to the truth."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import ndimage

SALT_AND_PEPPER = 0.06  # share of pixels that are set to black or white
Pair = tuple[np.ndarray, np.ndarray]


def _speckled(uptake: np.ndarray, truth: np.ndarray) -> Pair:
    """Half of SALT_AND_PEPPER of the pixels at 0, half at 255; the same ones in each image size."""
    chance = np.random.default_rng(0).random(uptake.shape)
    uptake = np.where(chance < SALT_AND_PEPPER / 2, 0, uptake)
    return np.where(chance > 1 - SALT_AND_PEPPER / 2, 255, uptake).astype(np.uint8), truth


def _rotated(uptake: np.ndarray, truth: np.ndarray, degrees: float) -> Pair:
    """About the middle, in the same size; 0 comes in from outside."""
    grey, label = (
        ndimage.rotate(image.astype(float), degrees, reshape=False, order=1)
        for image in (uptake, truth)
    )
    return np.round(grey).astype(np.uint8), label > 0.5


def _half_and_back(uptake: np.ndarray, truth: np.ndarray) -> Pair:
    """Means of 2×2 pixels, enlarged again."""
    height, width = uptake.shape
    grown = np.pad(uptake.astype(float), ((0, height % 2), (0, width % 2)), mode="edge")
    half = grown.reshape(grown.shape[0] // 2, 2, grown.shape[1] // 2, 2).mean((1, 3))
    back = ndimage.zoom(half, 2, order=1, mode="nearest", grid_mode=True)
    return np.round(back[:height, :width]).astype(np.uint8), truth


def _brighter(uptake: np.ndarray, truth: np.ndarray, factor: float) -> Pair:
    return np.clip(np.round(uptake * factor), 0, 255).astype(np.uint8), truth


VARIANTS: dict[str, Callable[[np.ndarray, np.ndarray], Pair]] = {
    "mirrored": lambda u, t: (u[:, ::-1], t[:, ::-1]),
    "vertically flipped": lambda u, t: (u[::-1], t[::-1]),
    "turned by 180°": lambda u, t: (u[::-1, ::-1], t[::-1, ::-1]),
    "6 % salt and pepper": _speckled,
    **{f"rotated by {angle}°": partial(_rotated, degrees=angle) for angle in (-10, -5, 5, 10)},
    "half size and back": _half_and_back,
    **{f"uptake × {factor}": partial(_brighter, factor=factor) for factor in (0.8, 1.2)},
}
"""uint8 H×W uptake and bool H×W truth -> both of the changed image."""
