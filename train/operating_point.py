"""From logits to the mask: calibration, threshold, and how sure a mask must be not to be empty.

Were the probabilities p of the pixels right, the mask with the largest expected Dice E would be {p
> E/2}: the surer the network is of an image, the higher the threshold (Lipton et al. 2014, "Optimal
thresholding of classifiers to maximize F1 measure", arXiv 1402.1892). Networks are overconfident,
and the more so the more tumour they see. A logistic regression on out-of-fold patients corrects
both: Platt's scaling of the logits (Platt 1999, "Probabilistic outputs for support vector
machines"), with an offset for each image.

An operating point is two numbers. Its minimum probability answers whether there is anything at all:
a mask is empty where fewer than FEWEST_PIXELS pixels exceed it, by the network's own probability.
Its threshold factor answers what belongs to it: the threshold E/2 is multiplied by it, and a factor
below 1 finds more lesions, at the cost of the Dice.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FEWEST_PIXELS = 100  # the highest alone separates less well; patients have 169 or more of tumour
ROUNDS = 8  # of the iteration in expected_dice: two give the masks of sixty on histograms
FLOOR = -12.0
"""Pixels with a logit at or below this are healthy whatever the calibration makes of them."""
AREA_SMOOTHING = 10.0  # pixels added before the logarithm, so that an image without tumour has one


@dataclass(frozen=True)
class Calibration:
    """The logits z of an image -> calibrated logits.

    slope * z + offset + per_log_area * ln(pixels with z > 0, and 10) + per_peak * (highest z).
    Raises ValueError where a number is not finite, or the slope not above 0."""

    slope: float
    offset: float = 0.0
    per_log_area: float = 0.0
    per_peak: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.slope <= 0:
            raise ValueError(f"slope is {self.slope}, expected a number above 0")


@dataclass(frozen=True)
class OperatingPoint:
    """minimum_probability: 0..1, 0 empties no mask and 1 every one; threshold_factor: above 0, 1 is
    the threshold of the largest expected Dice. Raises ValueError for other numbers."""

    minimum_probability: float = 0.0
    threshold_factor: float = 1.0

    def __post_init__(self) -> None:
        _check_numbers(self)
        if not 0 <= self.minimum_probability <= 1:
            raise ValueError(f"minimum_probability is {self.minimum_probability}, expected 0..1")
        if self.threshold_factor <= 0:
            raise ValueError(f"threshold_factor is {self.threshold_factor}, expected more than 0")


def _check_numbers(of: Calibration | OperatingPoint) -> None:
    for name, value in vars(of).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is {value!r}, expected a number")
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, expected a finite number")


def calibrated(logits: Tensor, calibration: Calibration) -> Tensor:
    """Logits of one image -> probabilities of the same shape, 0 at or below FLOOR."""
    area = (logits > 0).to(logits.dtype).sum()
    offset = (
        calibration.offset
        + calibration.per_log_area * torch.log(area + AREA_SMOOTHING)
        + calibration.per_peak * logits.amax(dim=tuple(range(logits.ndim)))
    )
    probability = torch.sigmoid(calibration.slope * logits + offset)
    return probability * (logits > FLOOR).to(logits.dtype)


def expected_dice(probability: Tensor) -> Tensor:
    """Pixels' probabilities of any shape -> the largest expected Dice that a mask can have, scalar.

    The expected Dice of a mask is taken as 2 Σ p over the mask / (its pixels + Σ p over all). Its
    maximum E comes from Dinkelbach's iteration (1967, "On nonlinear fractional programming"): the
    mask {p > E/2} of one estimate gives the next."""
    total = probability.sum()
    expected = torch.full_like(total, 0.5)
    for _ in range(ROUNDS):
        chosen = (probability > expected / 2).to(probability.dtype)
        expected = 2 * (probability * chosen).sum() / (chosen.sum() + total).clamp_min(1e-6)
    return expected


def mask(
    logits: Tensor, calibration: Calibration, minimum: Tensor, factor: Tensor | float = 1.0
) -> Tensor:
    """Logits of one image -> bool of the same shape. minimum: float32 scalar in 0..1, the minimum
    probability; 0 means none, and 1 empties all. factor: float32 scalar above 0, what the threshold
    of the largest expected Dice is multiplied with."""
    probability = calibrated(logits, calibration)
    tumour = probability > expected_dice(probability) / 2 * factor
    above = logits > torch.log(minimum) - torch.log1p(-minimum)
    enough = above.to(logits.dtype).sum() >= FEWEST_PIXELS
    return tumour & (enough | (minimum <= 0))


@dataclass(frozen=True)
class OperatingPoints:
    """calibration; named: the operating points by their names."""

    calibration: Calibration
    named: dict[str, OperatingPoint]

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """float32 H×W logits of one image -> float32 H×W, 0..1."""
        return calibrated(torch.from_numpy(logits), self.calibration).numpy()

    def mask(self, logits: np.ndarray, point: str | OperatingPoint) -> np.ndarray:
        """float32 H×W logits of one image -> bool H×W at an operating point, or one by its name."""
        point = self.named[point] if isinstance(point, str) else point
        minimum, factor = (torch.tensor(of, dtype=torch.float32) for of in vars(point).values())
        return mask(torch.from_numpy(logits), self.calibration, minimum, factor).numpy()
