"""What is drawn as tumour, chosen for held-out patients' Dice: calibration and least probability.

An image gets an empty mask where fewer than FEWEST_PIXELS have more than `least_probability`: faint
doubts of healthy people go away without a lesion's outline being changed.
"""

import dataclasses
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from scipy import special
from torch import Tensor

from serve import contract
from train.calibration import Calibration, Histograms, calibrated_mask

THRESHOLDS = np.round(np.arange(0.05, 0.91, 0.05), 2)
"""That are tried where all images get the same one, as they did before version 0.3.0."""
FEWEST_PIXELS = 100
"""The highest pixel alone tells patients from healthy people worse. Each of 145 patients has 169 or
more pixels of tumour."""
FAINT = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01)
"""Probabilities below which an image may be called empty, as far as steps are finer than 0.05."""
LEAST_PROBABILITIES = np.array([*FAINT, 0.02, *np.round(np.arange(0.05, 0.96, 0.05), 2)])
QUIET = 0.8
"""Share of controls that should get an empty mask."""
FREE = 0.003
"""Mean Dice that quiet may cost: what is found in one patient of 145 of whom little is found."""
MARGIN = 1.0
"""Logits by which each patient is taken to be fainter, when a least probability is chosen: the
faintest of a few patients is seldom the faintest that there is."""


@dataclass(frozen=True)
class Decision:
    """setting: a calibration, or one threshold of the probability for all images;
    least_probability: in (0, 1)."""

    setting: Calibration | float
    least_probability: float


def reached(logits: np.ndarray) -> float:
    """The probability that FEWEST_PIXELS of an image's logits reach; 0 where it has not so many."""
    if logits.size < FEWEST_PIXELS:
        return 0.0
    return float(special.expit(np.partition(logits, -FEWEST_PIXELS, axis=None)[-FEWEST_PIXELS]))


def mask(logits: Tensor, setting: Calibration | float) -> Tensor:
    """Float logits of one image -> bool of the same shape."""
    if isinstance(setting, Calibration):
        return calibrated_mask(logits, setting)
    return torch.sigmoid(logits) > setting


def dice_by_threshold(logits: np.ndarray, truth: np.ndarray) -> list[float]:
    """Dice of one patient at each of THRESHOLDS: logits float32 H×W, truth bool H×W."""
    image = torch.from_numpy(np.ascontiguousarray(logits))
    return [contract.dice(truth, mask(image, float(t)).numpy()) for t in THRESHOLDS]


class Scores(Protocol):
    """What is known of P patients and C controls, by whichever way masks are drawn.

    reached: float P, the probability that FEWEST_PIXELS reach; control_reached: the same, float C;
    blank: float P, Dice of an empty mask: 0, or 1 for a patient without tumour in the image.
    """

    name: str
    reached: np.ndarray
    blank: np.ndarray
    control_reached: np.ndarray

    def without(self, patient: int) -> Self: ...

    def best(self) -> Calibration | float:
        """The setting that is best for these patients."""
        ...

    def dice(self, setting: Calibration | float) -> np.ndarray:
        """Dice of each patient, float P, without least_probability."""
        ...

    def faintest(self, setting: Calibration | float) -> float:
        """The probability that a pixel has to reach for the mask not to be empty anyway."""
        ...


@dataclass(frozen=True, eq=False)
class ThresholdScores:
    """Where all images get the same threshold. table: float P×len(THRESHOLDS), Dice."""

    table: np.ndarray
    reached: np.ndarray
    blank: np.ndarray
    control_reached: np.ndarray
    name = "threshold"

    def without(self, patient: int) -> Self:
        fields = ("table", "reached", "blank")
        others = {name: np.delete(getattr(self, name), patient, axis=0) for name in fields}
        return dataclasses.replace(self, **others)

    def best(self) -> float:
        return float(THRESHOLDS[self.table.mean(axis=0).argmax()])

    def dice(self, setting: float) -> np.ndarray:
        return self.table[:, int(np.flatnonzero(setting == THRESHOLDS)[0])]

    def faintest(self, setting: float) -> float:
        return setting


@dataclass(frozen=True, eq=False)
class CalibratedScores:
    """Where each image gets its own threshold, that of its largest expected Dice."""

    histograms: Histograms
    reached: np.ndarray
    blank: np.ndarray
    control_reached: np.ndarray
    name = "calibration"

    def without(self, patient: int) -> Self:
        others = {name: np.delete(getattr(self, name), patient) for name in ("reached", "blank")}
        return dataclasses.replace(self, histograms=self.histograms.without(patient), **others)

    def best(self) -> Calibration:
        return self.histograms.calibrate()

    def dice(self, setting: Calibration) -> np.ndarray:
        return self.histograms.dice(setting)

    def faintest(self, setting: Calibration) -> float:
        return 0.0


def dice_at(scores: Scores, decision: Decision) -> np.ndarray:
    """Dice of each patient, float P."""
    sure = scores.reached > decision.least_probability
    return np.where(sure, scores.dice(decision.setting), scores.blank)


def empty(scores: Scores, decision: Decision) -> float | None:
    """Share of controls with an empty mask; None without controls."""
    least = max(decision.least_probability, scores.faintest(decision.setting))
    return float((scores.control_reached <= least).mean()) if scores.control_reached.size else None


def choose(scores: Scores) -> Decision:
    """The best setting, and the lowest least_probability at which controls are QUIET.

    Where that would cost patients more than FREE, with MARGIN, the highest that does not, or the
    lowest that there is.
    """
    setting = scores.best()
    decisions = [Decision(setting, float(least)) for least in LEAST_PROBABILITIES]
    dice = scores.dice(setting)
    fainter = special.expit(special.logit(scores.reached) - MARGIN)
    means = [np.where(fainter > d.least_probability, dice, scores.blank).mean() for d in decisions]
    free = [d for d, mean in zip(decisions, means, strict=True) if mean >= dice.mean() - FREE]
    for decision in free:
        if (share := empty(scores, decision)) is None or share >= QUIET:
            return decision
    return free[-1] if free else decisions[0]


def nested_dice(scores: Scores) -> np.ndarray:
    """Each patient's Dice at the decision that is best for all the others, float P, P >= 2.

    That is the honest figure for `choose`: no patient has a say in what it is measured at.
    """
    return np.array(
        [dice_at(scores, choose(scores.without(i)))[i] for i in range(len(scores.reached))]
    )


def standard_error(dice: np.ndarray) -> float:
    """Of the mean of float P, P >= 2, patients drawn from many."""
    return float(dice.std(ddof=1) / np.sqrt(len(dice)))
