"""The threshold on tumour probability, chosen for the mean Dice of held-out patients."""

import numpy as np

from serve import contract

THRESHOLDS = np.round(np.arange(0.1, 0.91, 0.05), 2)


def dice_by_threshold(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of one patient at each of THRESHOLDS: probability float H×W in 0..1, truth bool H×W."""
    return np.array([contract.dice(truth, probability > t) for t in THRESHOLDS])


def best_threshold(dice: np.ndarray) -> float:
    """The threshold with the highest mean over P patients; dice is P×len(THRESHOLDS)."""
    return float(THRESHOLDS[dice.mean(axis=0).argmax()])


def nested_dice(dice: np.ndarray) -> np.ndarray:
    """Each patient's Dice at the threshold that is best for all the others.

    That is the honest figure for `best_threshold`: no patient has a say in the threshold it is
    measured at. dice is P×len(THRESHOLDS) with P >= 2, the result has length P.
    """
    others = (dice.sum(axis=0) - dice) / (len(dice) - 1)
    return dice[np.arange(len(dice)), others.argmax(axis=1)]
