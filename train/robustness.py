"""What scorers and scanners do to images, and what it does to the truth."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

SALT_AND_PEPPER = 0.06
"""Share of pixels that are set to black or white."""
Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""uint8 H×W uptake and bool H×W truth -> both of the changed image."""


def _speckled(uptake: np.ndarray) -> np.ndarray:
    """Half of SALT_AND_PEPPER of the pixels at 0, half at 255; the same ones in each image size."""
    chance = np.random.default_rng(0).random(uptake.shape)
    uptake = np.where(chance < SALT_AND_PEPPER / 2, 0, uptake)
    return np.where(chance > 1 - SALT_AND_PEPPER / 2, 255, uptake).astype(np.uint8)


def _rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    """float H×W turned about its middle, of the same size; 0 comes in from outside."""
    return ndimage.rotate(image, degrees, reshape=False, order=1)


def _rotation(degrees: float) -> Change:
    def change(uptake: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        grey = np.round(_rotated(uptake.astype(float), degrees)).astype(np.uint8)
        return grey, _rotated(truth.astype(float), degrees) > 0.5

    return change


def _half_and_back(uptake: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels, enlarged again."""
    height, width = uptake.shape
    grown = np.pad(uptake.astype(float), ((0, height % 2), (0, width % 2)), mode="edge")
    half = grown.reshape(grown.shape[0] // 2, 2, grown.shape[1] // 2, 2).mean((1, 3))
    back = ndimage.zoom(half, 2, order=1, mode="nearest", grid_mode=True)
    return np.round(back[:height, :width]).astype(np.uint8)


def _gain(factor: float) -> Change:
    return lambda u, t: (np.clip(np.round(u * factor), 0, 255).astype(np.uint8), t)


VARIANTS: dict[str, Change] = {
    "mirrored": lambda u, t: (u[:, ::-1], t[:, ::-1]),
    "vertically flipped": lambda u, t: (u[::-1], t[::-1]),
    "turned by 180°": lambda u, t: (u[::-1, ::-1], t[::-1, ::-1]),
    "6 % salt and pepper": lambda u, t: (_speckled(u), t),
    "rotated by -10°": _rotation(-10),
    "rotated by -5°": _rotation(-5),
    "rotated by 5°": _rotation(5),
    "rotated by 10°": _rotation(10),
    "half size and back": lambda u, t: (_half_and_back(u), t),
    "uptake × 0.8": _gain(0.8),
    "uptake × 1.2": _gain(1.2),
}
