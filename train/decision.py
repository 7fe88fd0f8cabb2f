"""What is drawn as tumour, chosen for held-out patients' Dice: a calibration and a least peak.

An image whose highest probability stays at or below `least_peak` gets an empty mask: faint doubts
of healthy people go away without a lesion's outline being changed.
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
LEAST_PEAKS = np.concatenate([[0.001, 0.01], np.round(np.arange(0.05, 0.96, 0.05), 2)])
QUIET = 0.8
"""Share of controls that should get an empty mask."""
FREE = 0.003
"""Mean Dice that quiet may cost: what is found in one patient of 145 of whom little is found."""
MARGIN = 1.0
"""Logits by which each patient's peak is taken to be lower than it is, when a least peak is chosen:
the faintest of a few patients is seldom the faintest that there is."""


@dataclass(frozen=True)
class Decision:
    """setting: a calibration, or one threshold of the probability for all images; least_peak: a
    probability in (0, 1)."""

    setting: Calibration | float
    least_peak: float


def peak(logits: np.ndarray) -> float:
    """The highest probability of an image's logits."""
    return float(torch.sigmoid(torch.tensor(logits.max())))


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

    peak: float P, highest probability; blank: float P, Dice of an empty mask: 0, or 1 for a patient
    without tumour in the image; control_peak: float C, highest probability.
    """

    name: str
    peak: np.ndarray
    blank: np.ndarray
    control_peak: np.ndarray

    def without(self, patient: int) -> Self: ...

    def best(self) -> Calibration | float:
        """The setting that is best for these patients."""
        ...

    def dice(self, setting: Calibration | float) -> np.ndarray:
        """Dice of each patient, float P, without least_peak."""
        ...

    def faintest(self, setting: Calibration | float) -> float:
        """The probability that an image has to reach for its mask not to be empty anyway."""
        ...


@dataclass(frozen=True, eq=False)
class ThresholdScores:
    """Where all images get the same threshold. table: float P×len(THRESHOLDS), Dice."""

    table: np.ndarray
    peak: np.ndarray
    blank: np.ndarray
    control_peak: np.ndarray
    name = "threshold"

    def without(self, patient: int) -> Self:
        fields = ("table", "peak", "blank")
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
    blank: np.ndarray
    control_peak: np.ndarray
    name = "calibration"

    @property
    def peak(self) -> np.ndarray:
        return special.expit(self.histograms.peak)

    def without(self, patient: int) -> Self:
        histograms, blank = self.histograms.without(patient), np.delete(self.blank, patient)
        return dataclasses.replace(self, histograms=histograms, blank=blank)

    def best(self) -> Calibration:
        return self.histograms.calibrate()

    def dice(self, setting: Calibration) -> np.ndarray:
        return self.histograms.dice(setting)

    def faintest(self, setting: Calibration) -> float:
        return 0.0


def dice_at(scores: Scores, decision: Decision) -> np.ndarray:
    """Dice of each patient, float P."""
    return np.where(scores.peak > decision.least_peak, scores.dice(decision.setting), scores.blank)


def empty(scores: Scores, decision: Decision) -> float | None:
    """Share of controls with an empty mask; None without controls."""
    least = max(decision.least_peak, scores.faintest(decision.setting))
    return float((scores.control_peak <= least).mean()) if scores.control_peak.size else None


def choose(scores: Scores) -> Decision:
    """The best setting, and the lowest least_peak at which controls are QUIET.

    Where that would cost patients more than FREE, with MARGIN, the highest that does not, or the
    lowest that there is.
    """
    setting = scores.best()
    decisions = [Decision(setting, float(peak)) for peak in LEAST_PEAKS]
    dice = scores.dice(setting)
    fainter = special.expit(special.logit(scores.peak) - MARGIN)
    means = [np.where(fainter > d.least_peak, dice, scores.blank).mean() for d in decisions]
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
        [dice_at(scores, choose(scores.without(i)))[i] for i in range(len(scores.peak))]
    )


def standard_error(dice: np.ndarray) -> float:
    """Of the mean of float P, P >= 2, patients drawn from many."""
    return float(dice.std(ddof=1) / np.sqrt(len(dice)))
