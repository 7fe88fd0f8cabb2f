"""From logits to the mask: calibration, and how sure a mask must be not to be empty.

Were the probabilities p of the pixels right, the mask with the largest expected Dice E would be {p
> E/2}: the surer the network is of an image, the higher the threshold (Lipton et al. 2014, "Optimal
thresholding of classifiers to maximize F1 measure", arXiv 1402.1892). Networks are overconfident,
and the more so the more tumour they see. A logistic regression on out-of-fold patients corrects
both: Platt's scaling of the logits (Platt 1999, "Probabilistic outputs for support vector
machines"), with an offset for each image.

An operating point is a minimum probability: a mask is empty where fewer than FEWEST_PIXELS pixels
exceed it. Lesions that are found keep their outline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import optimize, special
from torch import Tensor

SPECIFICITY = {"sensitive": 0.0, "balanced": 0.5, "specific": 0.8}
"""Operating points, by the share of controls, of which there are many, that get an empty mask."""
DEFAULT = "balanced"
FEWEST_PIXELS = 100  # the highest alone separates less well; patients have 169 or more of tumour
MOST = 0.999999  # the highest minimum probability that is chosen: 1 would empty every mask
ROUNDS = 8  # of the iteration in expected_dice: two give the masks of sixty on histograms
FLOOR = -12.0
"""Pixels with a logit at or below this are healthy whatever the calibration makes of them."""
AREA_SMOOTHING = 10.0  # pixels added before the logarithm, so that an image without tumour has one
EDGES = np.arange(FLOOR, 15.01, 0.25)
"""Of the bins of a histogram of logits, which has a bin below the first and above the last."""
MIDDLES = np.concatenate([[FLOOR], (EDGES[1:] + EDGES[:-1]) / 2, [EDGES[-1]]])
"""The logit that each bin stands for."""
_RIDGE = 1e-6  # keeps the numbers finite where the images can be separated perfectly
_LEAST_SLOPE = 0.05


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
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} is {value!r}, expected a number")
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}, expected a finite number")
        if self.slope <= 0:
            raise ValueError(f"slope is {self.slope}, expected a number above 0")


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


def mask(logits: Tensor, calibration: Calibration, minimum: Tensor) -> Tensor:
    """Logits of one image -> bool of the same shape. minimum: float32 scalar in 0..1, the minimum
    probability; 0 means none, and 1 empties all."""
    probability = calibrated(logits, calibration)
    tumour = probability > expected_dice(probability) / 2
    above = logits > torch.log(minimum) - torch.log1p(-minimum)
    enough = above.to(logits.dtype).sum() >= FEWEST_PIXELS
    return tumour & (enough | (minimum <= 0))


def reached(logits: np.ndarray) -> float:
    """The logit that FEWEST_PIXELS pixels reach, -inf where there are not so many."""
    if logits.size < FEWEST_PIXELS:
        return -math.inf
    return float(np.partition(logits, -FEWEST_PIXELS, axis=None)[-FEWEST_PIXELS])


def minimum_probability(controls: Sequence[float], specificity: float) -> float:
    """The lowest at which that share of the controls, of which `reached` gave these, gets an empty
    mask, halfway to the next. Raises ValueError without controls if the share is above 0."""
    if specificity <= 0:
        return 0.0
    if not len(controls):
        raise ValueError("there are no controls, which an operating point is defined on")
    logits = np.sort(np.asarray(controls, float))
    emptied = math.ceil(specificity * len(logits) - 1e-9)
    middle = np.append(logits, logits[-1] + 1)[emptied - 1 : emptied + 1].mean()
    return min(float(f"{special.expit(middle):.6g}"), MOST)


@dataclass(frozen=True, eq=False)
class Histograms:
    """All that a calibration needs to know of P patients. pixels, tumour: int P×(len(EDGES) + 1),
    pixels by logit, all of them and tumour pixels; peak: float P, the highest logit."""

    pixels: np.ndarray
    tumour: np.ndarray
    peak: np.ndarray

    @classmethod
    def of(cls, images: Sequence[tuple[np.ndarray, np.ndarray]]) -> Self:
        """Of pairs of float H×W logits and bool H×W truth."""
        bins = [np.digitize(logits, EDGES, right=True) for logits, _ in images]
        count = len(EDGES) + 1
        pairs = zip(bins, images, strict=True)
        return cls(
            np.array([np.bincount(b.ravel(), minlength=count) for b in bins]),
            np.array([np.bincount(b[truth], minlength=count) for b, (_, truth) in pairs]),
            np.array([logits.max() for logits, _ in images], float),
        )

    def where(self, chosen: np.ndarray) -> Self:
        """Only those patients; chosen: bool P."""
        return type(self)(self.pixels[chosen], self.tumour[chosen], self.peak[chosen])

    def _features(self) -> np.ndarray:
        """float P×bins×4 of what Calibration multiplies with its four numbers, in their order."""
        log_area = np.log(self.pixels[:, MIDDLES > 0].sum(axis=1) + AREA_SMOOTHING)
        shape = (*self.pixels.shape, 1)
        parts = (MIDDLES[:, None], 1.0, log_area[:, None, None], self.peak[:, None, None])
        return np.concatenate([np.broadcast_to(part, shape) for part in parts], axis=2)

    def calibrate(self) -> Calibration:
        """The logistic regression of truth on logits above FLOOR, each image weighing the same."""
        above = self.pixels[:, 1:]
        weight = 1 / np.maximum(above.sum(axis=1, keepdims=True), 1) / len(above)
        pixels, tumour = above * weight, self.tumour[:, 1:] * weight
        features = self._features()[:, 1:]

        def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
            logits = features @ numbers
            value = (pixels * np.logaddexp(0, logits) - tumour * logits).sum()
            residual = pixels * special.expit(logits) - tumour
            ridge = _RIDGE * numbers
            gradient = np.einsum("pb,pbk->k", residual, features) + 2 * ridge
            return value + numbers @ ridge, gradient

        bounds = [(_LEAST_SLOPE, None), (None, None), (None, None), (None, None)]
        found = optimize.minimize(loss, [0.5, 0, 0, 0], jac=True, method="L-BFGS-B", bounds=bounds)
        return Calibration(*(round(float(number), 4) for number in found.x))
