import numpy as np
import pytest

from train import decision
from train.decision import Decision, Scores


def _scores(
    dice: np.ndarray,
    peak: float | list[float] = 1.0,
    blank: float = 0.0,
    control_peak: tuple[float, ...] = (),
) -> Scores:
    n = len(dice)
    peaks = np.broadcast_to(np.array(peak), n)
    return Scores(dice, peaks, np.full(n, blank), np.array(control_peak))


def test_the_threshold_with_the_best_mean_is_chosen():
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    probability = np.where(truth, 0.33, 0.18)
    scores = _scores(np.array([decision.dice_by_threshold(probability, truth)] * 3))
    assert 0.18 <= decision.choose(scores).threshold < 0.33
    assert decision.nested_dice(scores) == pytest.approx([1, 1, 1])


def test_no_patient_has_a_say_in_the_threshold_it_is_measured_at():
    # One patient is only right at the last threshold, by so much that it would win the vote.
    dice = np.full((3, len(decision.THRESHOLDS)), 0.1)
    dice[:2, 0] = 0.2
    dice[2, -1] = 1.0
    assert decision.choose(_scores(dice)).threshold == decision.THRESHOLDS[-1]
    assert decision.nested_dice(_scores(dice))[2] == pytest.approx(0.1)


def test_the_least_peak_is_the_lowest_that_makes_four_of_five_controls_empty():
    dice = np.full((3, len(decision.THRESHOLDS)), 0.8)
    controls = (0.01, 0.2, 0.3, 0.48, 0.99)
    scores = _scores(dice, peak=[0.99, 0.72, 0.9], control_peak=controls)
    assert decision.choose(scores) == Decision(0.05, 0.5)
    assert scores.empty(Decision(0.05, 0.5)) == pytest.approx(0.8)
    assert _scores(dice).empty(Decision(0.05, 0.5)) is None


def test_the_least_peak_costs_no_patient():
    dice = np.full((3, len(decision.THRESHOLDS)), 0.8)
    loud = (0.97,) * 5
    chosen = decision.choose(_scores(dice, peak=[0.99, 0.72, 0.9], control_peak=loud))
    assert chosen.least_peak == 0.7
    # A patient of whom next to nothing is found costs next to nothing when the mask is empty.
    dice[1] = 0.001
    chosen = decision.choose(_scores(dice, peak=[0.99, 0.72, 0.9], control_peak=loud))
    assert chosen.least_peak == 0.85


def test_an_unsure_image_gets_the_dice_of_an_empty_mask():
    dice = np.full((2, len(decision.THRESHOLDS)), 0.5)
    at = Decision(threshold=0.3, least_peak=0.6)
    assert list(_scores(dice, peak=[0.5, 0.7]).at(at)) == [0, 0.5]
    assert list(_scores(dice, peak=[0.5, 0.7], blank=1.0).at(at)) == [1, 0.5]
