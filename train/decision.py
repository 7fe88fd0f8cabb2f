"""From tumour probability to mask: two numbers, chosen for the mean Dice of held-out patients.

A pixel is tumour above `threshold`. An image whose highest probability stays at or below
`least_peak` gets an empty mask: where there is tumour, the network is sure of it somewhere, and
faint doubts of healthy people go away without a lesion's outline being changed.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from serve import contract

THRESHOLDS = np.round(np.arange(0.05, 0.91, 0.05), 2)
LEAST_PEAKS = np.round(np.arange(0.05, 0.96, 0.05), 2)
QUIET = 0.8
"""Share of controls that should get an empty mask."""
FREE = 0.0005
"""Mean Dice that quiet may cost: far below any standard error, and above what a patient whose
lesions were missed anyway has left to lose."""


@dataclass(frozen=True)
class Decision:
    """Both are probabilities in (0, 1)."""

    threshold: float
    least_peak: float


@dataclass(frozen=True)
class Scores:
    """What is known of P patients and C controls.

    dice: float P×len(THRESHOLDS), without least_peak; peak: float P, highest probability;
    blank: float P, Dice of an empty mask: 0, or 1 for a patient without tumour in the image;
    control_peak: float C, highest probability.
    """

    dice: np.ndarray
    peak: np.ndarray
    blank: np.ndarray
    control_peak: np.ndarray

    def without(self, patient: int) -> "Scores":
        others = {
            n: np.delete(getattr(self, n), patient, axis=0) for n in ("dice", "peak", "blank")
        }
        return dataclasses.replace(self, **others)

    def at(self, decision: Decision) -> np.ndarray:
        """Dice of each patient."""
        column = int(np.flatnonzero(decision.threshold == THRESHOLDS)[0])
        return np.where(self.peak > decision.least_peak, self.dice[:, column], self.blank)

    def empty(self, decision: Decision) -> float | None:
        """Share of controls with an empty mask; None without controls."""
        least = max(decision.threshold, decision.least_peak)
        return float((self.control_peak <= least).mean()) if self.control_peak.size else None


def dice_by_threshold(probability: np.ndarray, truth: np.ndarray) -> list[float]:
    """Dice of one patient at each of THRESHOLDS: probability float H×W in 0..1, truth bool H×W."""
    return [contract.dice(truth, probability > t) for t in THRESHOLDS]


def choose(scores: Scores) -> Decision:
    """The best threshold, and the lowest least_peak at which controls are QUIET.

    Where that would cost patients more than FREE, the highest that does not. Lowest, because of
    few patients the faintest is seldom the faintest that there is.
    """
    threshold = float(THRESHOLDS[scores.dice.mean(axis=0).argmax()])
    decisions = [Decision(threshold, float(peak)) for peak in LEAST_PEAKS]
    means = np.array([scores.at(decision).mean() for decision in decisions])
    free = [decisions[i] for i in np.flatnonzero(means >= means[0] - FREE)]
    for decision in free:
        if (share := scores.empty(decision)) is None or share >= QUIET:
            return decision
    return free[-1]


def nested_dice(scores: Scores) -> np.ndarray:
    """Each patient's Dice at the decision that is best for all the others, float P, P >= 2.

    That is the honest figure for `choose`: no patient has a say in what it is measured at.
    """
    return np.array([scores.at(choose(scores.without(i)))[i] for i in range(len(scores.peak))])


def standard_error(dice: np.ndarray) -> float:
    """Of the mean of float P, P >= 2, patients drawn from many."""
    return float(dice.std(ddof=1) / np.sqrt(len(dice)))
