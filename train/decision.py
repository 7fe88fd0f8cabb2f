"""From tumour logits to a mask, and the two numbers of that, chosen for held-out patients' Dice.

The score is the Dice of each image. Were the probabilities p of the pixels right, the mask with the
largest expected Dice E would be {p > E/2}: the surer the network is of an image, the higher the
threshold (Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure",
arXiv 1402.1892). Networks are too sure of themselves, which a `temperature` mends: the logits are
divided by it (Guo et al. 2017, arXiv 1706.04599). Where a network sees a lesion only faintly, its
outline is thus drawn at a faint probability, instead of not at all.

An image whose highest probability stays at or below `least_peak` gets an empty mask: faint doubts
of healthy people go away without a lesion's outline being changed.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from serve import contract

ROUNDS = 8
"""Of the iteration below. Twenty drew the same masks of 87 patients held out, at temperature 2.5.

Only images in which nothing is sure, which least_peak leaves out, need a round or two more.
"""
LEAST_PEAKS = np.round(np.arange(0.05, 0.96, 0.05), 2)
QUIET = 0.8
"""Share of controls that should get an empty mask."""
FREE = 0.0005
"""Mean Dice that quiet may cost: far below any standard error, and above what a patient whose
lesions were missed anyway has left to lose."""


@dataclass(frozen=True, eq=False)
class Rule:
    """How a mask is drawn, and the settings that are tried.

    With `setting` as the threshold of the probability, or, if `adapted`, as the temperature at
    which each image gets the threshold of its largest expected Dice.
    """

    name: str
    settings: np.ndarray
    adapted: bool


FIXED = Rule("threshold", np.round(np.arange(0.05, 0.91, 0.05), 2), adapted=False)
"""The rule of versions before 0.3.0; kept to measure the other one against."""
ADAPTED = Rule("temperature", np.round(np.arange(1.0, 4.01, 0.25), 2), adapted=True)


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


def adapted_mask(logits: Tensor, temperature: float) -> Tensor:
    """Logits of one image -> bool of the same shape, the mask with the largest expected Dice."""
    probability = torch.sigmoid(logits / temperature)
    return probability > expected_dice(probability) / 2


def dice_by_setting(logits: np.ndarray, truth: np.ndarray, rule: Rule) -> list[float]:
    """Dice of one patient at each setting of the rule: logits float32 H×W, truth bool H×W."""
    image = torch.from_numpy(np.ascontiguousarray(logits))
    return [contract.dice(truth, mask(image, rule, s).numpy()) for s in rule.settings]


def peak(logits: np.ndarray) -> float:
    """The highest probability of an image's logits."""
    return float(torch.sigmoid(torch.tensor(logits.max())))


def mask(logits: Tensor, rule: Rule, setting: float) -> Tensor:
    """Float logits of one image -> bool of the same shape."""
    if rule.adapted:
        return adapted_mask(logits, float(setting))
    return torch.sigmoid(logits) > float(setting)


@dataclass(frozen=True)
class Decision:
    """setting: of the rule, above 0; least_peak: a probability in (0, 1)."""

    setting: float
    least_peak: float


@dataclass(frozen=True)
class Scores:
    """What is known of P patients and C controls.

    dice: float P×len(rule.settings), without least_peak; peak: float P, highest probability;
    blank: float P, Dice of an empty mask: 0, or 1 for a patient without tumour in the image;
    control_peak: float C, highest probability.
    """

    rule: Rule
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
        column = int(np.flatnonzero(decision.setting == self.rule.settings)[0])
        return np.where(self.peak > decision.least_peak, self.dice[:, column], self.blank)

    def empty(self, decision: Decision) -> float | None:
        """Share of controls with an empty mask; None without controls."""
        # A threshold that nothing reaches leaves a mask empty too; an adapted one is reached.
        least = max(decision.least_peak, 0 if self.rule.adapted else decision.setting)
        return float((self.control_peak <= least).mean()) if self.control_peak.size else None


def choose(scores: Scores) -> Decision:
    """The best setting, and the lowest least_peak at which controls are QUIET.

    Where that would cost patients more than FREE, the highest that does not. Lowest, because of
    few patients the faintest is seldom the faintest that there is.
    """
    setting = float(scores.rule.settings[scores.dice.mean(axis=0).argmax()])
    decisions = [Decision(setting, float(peak)) for peak in LEAST_PEAKS]
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
