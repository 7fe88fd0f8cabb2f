"""From logits to probabilities that may be believed, and the mask with the largest expected Dice.

The score is the Dice of each image. Were the probabilities p of the pixels right, the mask with the
largest expected Dice E would be {p > E/2}: the surer the network is of an image, the higher the
threshold (Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure",
arXiv 1402.1892). Networks are too sure of themselves, and they say too little of an image in which
they see little. A logistic regression on people held out mends both: Platt's scaling of the logits
(Platt 1999, "Probabilistic outputs for support vector machines"), with an offset for each image
that goes by how much tumour is seen in it and how surely.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import optimize, special
from torch import Tensor

ROUNDS = 8
"""Of the iteration below. By the histograms of 145 patients held out, two draw what sixty do;
pixels are finer than bins, so there are more."""
FLOOR = -12.0
"""Pixels with a logit at or below this are healthy whatever the calibration makes of them. In a
body that looks healthy as a whole, networks call lesions hardly likelier than that; they are found
by being the likeliest there is."""
AREA_SMOOTHING = 10.0
"""Pixels added before the logarithm, so that an image in which nothing is seen has one."""
EDGES = np.arange(FLOOR, 15.01, 0.25)
"""Of the bins of a histogram of logits, which has a bin below the first and above the last."""
MIDDLES = np.concatenate([[FLOOR], (EDGES[1:] + EDGES[:-1]) / 2, [EDGES[-1]]])
"""The logit that each bin stands for."""
_RIDGE = 1e-6
"""Keeps the numbers finite where a few images can be told apart wholly."""
_LEAST_SLOPE = 0.05


@dataclass(frozen=True)
class Calibration:
    """The logits z of an image -> those of probabilities that may be believed.

    slope * z + offset + per_log_area * ln(pixels with z > 0, and 10) + per_peak * (highest z).
    Raises ValueError where a number is not finite, or the slope not above 0.
    """

    slope: float
    offset: float = 0.0
    per_log_area: float = 0.0
    per_peak: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}, expected a finite number")
        if self.slope <= 0:
            raise ValueError(f"slope is {self.slope}, expected a number above 0")

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in vars(self).items())


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
    mask {p > E/2} of one estimate gives the next.
    """
    total = probability.sum()
    expected = torch.full_like(total, 0.5)
    for _ in range(ROUNDS):
        chosen = (probability > expected / 2).to(probability.dtype)
        expected = 2 * (probability * chosen).sum() / (chosen.sum() + total).clamp_min(1e-6)
    return expected


def calibrated_mask(logits: Tensor, calibration: Calibration) -> Tensor:
    """Logits of one image -> bool of the same shape, the mask with the largest expected Dice."""
    probability = calibrated(logits, calibration)
    return probability > expected_dice(probability) / 2


@dataclass(frozen=True, eq=False)
class Histograms:
    """All that a calibration needs to know of P images.

    pixels, tumour: int P×(len(EDGES) + 1), pixels by logit, all and those that are tumour;
    peak: float P, highest logit.
    """

    pixels: np.ndarray
    tumour: np.ndarray
    peak: np.ndarray

    @classmethod
    def of(cls, images: list[tuple[np.ndarray, np.ndarray]]) -> Self:
        """Of pairs of float H×W logits and bool H×W truth."""
        bins = [np.digitize(logits, EDGES, right=True) for logits, _ in images]
        count = len(EDGES) + 1
        pairs = zip(bins, images, strict=True)
        return cls(
            np.array([np.bincount(b.ravel(), minlength=count) for b in bins]),
            np.array([np.bincount(b[truth], minlength=count) for b, (_, truth) in pairs]),
            np.array([logits.max() for logits, _ in images], float),
        )

    @classmethod
    def of_records(cls, pixels: list[list], tumour: list[list], peak: list[float]) -> Self:
        """Of lists as the fields are; those of versions before 0.8.0, whose lowest bins were not
        told apart, have them in the lowest of all, as their networks were calibrated."""
        missing = len(EDGES) + 1 - len(pixels[0])
        pixels, tumour = (np.insert(of, [1] * missing, 0, axis=1) for of in (pixels, tumour))
        return cls(pixels, tumour, np.array(peak))

    def without(self, image: int) -> Self:
        fields = vars(self).items()
        return dataclasses.replace(self, **{n: np.delete(of, image, axis=0) for n, of in fields})

    def features(self) -> np.ndarray:
        """float P×bins×4 of what Calibration multiplies with its four numbers, in their order."""
        log_area = np.log(self.pixels[:, MIDDLES > 0].sum(axis=1) + AREA_SMOOTHING)
        shape = (*self.pixels.shape, 1)
        parts = (MIDDLES[:, None], 1.0, log_area[:, None, None], self.peak[:, None, None])
        return np.concatenate([np.broadcast_to(part, shape) for part in parts], axis=2)

    def calibrate(self) -> Calibration:
        """The logistic regression of truth on features, each image weighing the same."""
        pixels, tumour = self._weighted()
        features = self.features()[:, 1:]

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

    def _weighted(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and tumour above FLOOR, float P×bins: each image's pixels sum up to 1/P."""
        seen = self.pixels[:, 1:]
        weight = 1 / np.maximum(seen.sum(axis=1, keepdims=True), 1) / len(seen)
        return seen * weight, self.tumour[:, 1:] * weight

    def _probabilities(self, calibration: Calibration) -> np.ndarray:
        """Of each bin, float P×bins, 0 below FLOOR."""
        logits = self.features() @ np.array([*vars(calibration).values()])
        return special.expit(logits) * (np.arange(logits.shape[1]) > 0)

    def reliability(self, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
        """Mean probability and share of tumour of the pixels in each tenth of 0..1."""
        pixels, tumour = self._weighted()
        probability = self._probabilities(calibration)[:, 1:]
        tenth = np.minimum(probability * 10, 9).astype(int).ravel()
        number, said, true = (
            np.bincount(tenth, of.ravel(), 10) for of in (pixels, pixels * probability, tumour)
        )
        met = number > 0
        return said[met] / number[met], true[met] / number[met]

    def dice(self, calibration: Calibration) -> np.ndarray:
        """Dice of each image's mask with the largest expected Dice, float P; 1 where truth and
        mask are both empty."""
        probability = self._probabilities(calibration)
        # The mask is all pixels from some bin upwards: sums over the bins from each one upwards.
        pixels, hits, promised = (
            of[:, ::-1].cumsum(axis=1)[:, ::-1]
            for of in (self.pixels, self.tumour, self.pixels * probability)
        )
        expected = 2 * promised / np.maximum(pixels + promised[:, :1], 1e-6)
        # Of equal ones, the highest bin: the smallest mask.
        first = expected.shape[1] - 1 - expected[:, ::-1].argmax(axis=1)
        drawn = np.arange(len(first)), first
        total = pixels[drawn] + self.tumour.sum(axis=1)
        return np.where(total > 0, 2 * hits[drawn] / np.maximum(total, 1), 1.0)
