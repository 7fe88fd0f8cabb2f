import numpy as np
import pytest
import torch

from train import decision
from train.decision import ADAPTED, FIXED, Decision, Rule, Scores


def _scores(
    dice: np.ndarray,
    peak: float | list[float] = 1.0,
    blank: float = 0.0,
    control_peak: tuple[float, ...] = (),
    rule: Rule = FIXED,
) -> Scores:
    n = len(dice)
    peaks = np.broadcast_to(np.array(peak), n)
    return Scores(rule, dice, peaks, np.full(n, blank), np.array(control_peak))


def test_the_threshold_with_the_best_mean_is_chosen():
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    logits = np.log(np.where(truth, 0.33 / 0.67, 0.18 / 0.82)).astype(np.float32)
    scores = _scores(np.array([decision.dice_by_setting(logits, truth, FIXED)] * 3))
    assert 0.18 <= decision.choose(scores).setting < 0.33
    assert decision.nested_dice(scores) == pytest.approx([1, 1, 1])


def test_no_patient_has_a_say_in_the_threshold_it_is_measured_at():
    # One patient is only right at the last threshold, by so much that it would win the vote.
    dice = np.full((3, len(FIXED.settings)), 0.1)
    dice[:2, 0] = 0.2
    dice[2, -1] = 1.0
    assert decision.choose(_scores(dice)).setting == FIXED.settings[-1]
    assert decision.nested_dice(_scores(dice))[2] == pytest.approx(0.1)


def test_the_least_peak_is_the_lowest_that_makes_four_of_five_controls_empty():
    dice = np.full((3, len(FIXED.settings)), 0.8)
    controls = (0.01, 0.2, 0.3, 0.48, 0.99)
    scores = _scores(dice, peak=[0.99, 0.72, 0.9], control_peak=controls)
    assert decision.choose(scores) == Decision(0.05, 0.5)
    assert scores.empty(Decision(0.05, 0.5)) == pytest.approx(0.8)
    assert _scores(dice).empty(Decision(0.05, 0.5)) is None


def test_the_least_peak_costs_no_patient():
    dice = np.full((3, len(FIXED.settings)), 0.8)
    loud = (0.97,) * 5
    chosen = decision.choose(_scores(dice, peak=[0.99, 0.72, 0.9], control_peak=loud))
    assert chosen.least_peak == 0.7
    # A patient of whom next to nothing is found costs next to nothing when the mask is empty.
    dice[1] = 0.001
    chosen = decision.choose(_scores(dice, peak=[0.99, 0.72, 0.9], control_peak=loud))
    assert chosen.least_peak == 0.85


def test_an_unsure_image_gets_the_dice_of_an_empty_mask():
    dice = np.full((2, len(FIXED.settings)), 0.5)
    at = Decision(setting=0.3, least_peak=0.6)
    assert list(_scores(dice, peak=[0.5, 0.7]).at(at)) == [0, 0.5]
    assert list(_scores(dice, peak=[0.5, 0.7], blank=1.0).at(at)) == [1, 0.5]


def test_an_adapted_mask_is_never_empty_so_only_the_least_peak_makes_it_so():
    scores = _scores(
        np.full((3, len(ADAPTED.settings)), 0.8), control_peak=(0.1, 0.4), rule=ADAPTED
    )
    assert scores.empty(Decision(2.0, 0.3)) == 0.5
    assert scores.empty(Decision(2.0, 0.05)) == 0


def _best_by_trying(probability: np.ndarray) -> float:
    """The largest expected Dice over the masks of the k likeliest pixels, for every k."""
    p = np.sort(probability.ravel())[::-1]
    return float((2 * p.cumsum() / (np.arange(1, p.size + 1) + p.sum())).max())


@pytest.mark.parametrize("seed", range(20))
def test_the_expected_dice_is_the_largest_that_any_mask_has(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(rng.uniform(-12, 2), rng.uniform(0.5, 6), (40, 50)).astype(np.float32)
    probability = torch.sigmoid(torch.from_numpy(logits))
    best = _best_by_trying(probability.numpy().astype(np.float64))
    assert decision.expected_dice(probability).item() == pytest.approx(best, rel=1e-4)


def test_a_faint_lesion_is_drawn_where_a_sure_one_hides_it():
    faint = torch.full((20, 20), -9.0)
    faint[5:9, 5:9] = -3.0
    drawn = decision.adapted_mask(faint, 1.0)
    assert torch.equal(drawn, faint > -5)
    both = faint.clone()
    both[12:18, 12:18] = 5.0
    assert torch.equal(decision.adapted_mask(both, 1.0), both > 0)


def test_where_there_is_no_probability_at_all_nothing_is_drawn():
    assert not decision.adapted_mask(torch.full((5, 5), -1e4), 2.0).any()
