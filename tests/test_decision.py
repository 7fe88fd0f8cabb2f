import numpy as np
import pytest

from train import decision


def test_the_threshold_with_the_best_mean_is_chosen():
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    probability = np.where(truth, 0.33, 0.18)
    dice = np.array([decision.dice_by_threshold(probability, truth)] * 3)
    assert 0.18 <= decision.best_threshold(dice) < 0.33
    assert decision.nested_dice(dice) == pytest.approx([1, 1, 1])


def test_no_patient_has_a_say_in_the_threshold_it_is_measured_at():
    # One patient is only right at the last threshold, by so much that it would win the vote.
    dice = np.full((3, len(decision.THRESHOLDS)), 0.1)
    dice[:2, 0] = 0.2
    dice[2, -1] = 1.0
    assert decision.best_threshold(dice) == decision.THRESHOLDS[-1]
    assert decision.nested_dice(dice)[2] == pytest.approx(0.1)
