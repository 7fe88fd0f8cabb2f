"""Fit what is between logits and mask on out-of-fold images: calibration and operating points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import ndimage, optimize, special

from train.operating_point import (
    AREA_SMOOTHING,
    FEWEST_PIXELS,
    FLOOR,
    Calibration,
    OperatingPoint,
    calibrated,
    expected_dice,
)

DEFAULT = "balanced"
SENSITIVITY = 0.8  # share of the lesions that "sensitive" finds; it empties no mask
SPECIFICITY = {"balanced": 0.62, "specific": 0.8}
"""Share of the controls that get an empty mask, of which "balanced" takes fewer where its minimum
probability would come within MARGIN of a patient with tumour. Of the challenge's controls up to
0.66 could be emptied without emptying one of its 145 patients."""
MARGIN = 0.5  # logits
FEWEST_CONTROLS = 10  # in all: fewer are none, as nothing can be fitted on them
MOST = 0.999999  # the highest minimum probability that is chosen: 1 would empty every mask
LEAST_FACTOR = 0.05  # of the threshold; lower ones would mark whole bodies
EDGES = np.arange(FLOOR, 15.01, 0.25)
"""Of the bins of a histogram of logits, which has a bin below the first and above the last."""
MIDDLES = np.concatenate([[FLOOR], (EDGES[1:] + EDGES[:-1]) / 2, [EDGES[-1]]])
"""The logit that each bin stands for."""
_RIDGE = 1e-6  # keeps the numbers finite where the images can be separated perfectly
_LEAST_SLOPE = 0.05


def deciding_logit(logits: np.ndarray) -> float:
    """The logit that FEWEST_PIXELS pixels reach: a mask is empty where it is not above the minimum
    probability. -inf where there are not so many pixels."""
    if logits.size < FEWEST_PIXELS:
        return -math.inf
    return float(np.partition(logits, -FEWEST_PIXELS, axis=None)[-FEWEST_PIXELS])


def minimum_probability(controls: Sequence[float], specificity: float) -> float:
    """The lowest at which that share of the controls, one or more, of which these are the deciding
    logits, gets an empty mask, halfway to the next."""
    logits = np.sort(np.asarray(controls, float))
    emptied = math.ceil(specificity * len(logits) - 1e-9)
    middle = np.append(logits, logits[-1] + 1)[emptied - 1 : emptied + 1].mean()
    return _as_probability(middle)


def _as_probability(logit: float) -> float:
    return min(float(f"{special.expit(logit):.6g}"), MOST)


def lesion_peaks(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """int: for each lesion of the truth, bool H×W, the flat index of its highest logit. No
    calibration changes which pixel of an image that is."""
    groups, count = ndimage.label(truth, np.ones((3, 3)))
    places = ndimage.maximum_position(logits, groups, range(1, count + 1))
    return np.ravel_multi_index(np.array(places, int).reshape(-1, 2).T, logits.shape)


def relative_peaks(logits: np.ndarray, peaks: np.ndarray, calibration: Calibration) -> np.ndarray:
    """float: the highest probability of each lesion, as a multiple of the image's threshold. A
    lesion is found where this is above the threshold factor."""
    probability = calibrated(torch.from_numpy(logits), calibration)
    threshold = max(float(expected_dice(probability)) / 2, 1e-6)
    return probability.flatten()[peaks].numpy() / threshold


def threshold_factor(relative: Sequence[float], sensitivity: float) -> float:
    """The highest, 1 at most, at which that share of the lesions is found, of which these are the
    relative peaks; halfway to the next."""
    if not len(relative):
        return 1.0
    ordered = np.sort(relative)[::-1]
    needed = math.ceil(sensitivity * len(ordered) - 1e-9)
    factor = np.append(ordered, 0.9 * ordered[-1])[needed - 1 : needed + 1].mean()
    return float(f"{np.clip(factor, LEAST_FACTOR, 1):.4g}")


def operating_points(
    relative: Sequence[float], patients: Sequence[float], controls: Sequence[float]
) -> dict[str, OperatingPoint]:
    """By name; without controls "specific" is missing, and "balanced" empties no mask. relative:
    relative peaks of all lesions; patients, controls: deciding logits of the patients with tumour,
    and of the controls."""
    points = {"sensitive": OperatingPoint(0.0, threshold_factor(relative, SENSITIVITY))}
    if not len(controls):
        return points | {DEFAULT: OperatingPoint()}
    minimum = {name: minimum_probability(controls, of) for name, of in SPECIFICITY.items()}
    if len(patients):
        minimum[DEFAULT] = min(minimum[DEFAULT], _as_probability(min(patients) - MARGIN))
    return points | {name: OperatingPoint(of) for name, of in minimum.items()}


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
