import numpy as np
import pytest

from train import decision, oof
from train.calibration import Calibration, Histograms
from train.decision import THRESHOLDS, CalibratedScores, Decision, ThresholdScores


def _scores(
    dice: np.ndarray,
    reached: float | list[float] = 1.0,
    blank: float = 0.0,
    control_reached: tuple[float, ...] = (),
) -> ThresholdScores:
    n = len(dice)
    reaches = np.broadcast_to(np.array(reached), n)
    return ThresholdScores(dice, reaches, np.full(n, blank), np.array(control_reached))


def test_the_threshold_with_the_best_mean_is_chosen():
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    logits = np.log(np.where(truth, 0.33 / 0.67, 0.18 / 0.82)).astype(np.float32)
    scores = _scores(np.array([decision.dice_by_threshold(logits, truth)] * 3))
    assert 0.18 <= decision.choose(scores).setting < 0.33
    assert decision.nested_dice(scores) == pytest.approx([1, 1, 1])


def test_no_patient_has_a_say_in_the_threshold_it_is_measured_at():
    # One patient is only right at the last threshold, by so much that it would win the vote.
    dice = np.full((3, len(THRESHOLDS)), 0.1)
    dice[:2, 0] = 0.2
    dice[2, -1] = 1.0
    assert decision.choose(_scores(dice)).setting == THRESHOLDS[-1]
    assert decision.nested_dice(_scores(dice))[2] == pytest.approx(0.1)


def test_the_least_probability_is_the_lowest_that_makes_four_of_five_controls_empty():
    dice = np.full((3, len(THRESHOLDS)), 0.8)
    controls = (0.01, 0.2, 0.3, 0.48, 0.99)
    scores = _scores(dice, reached=[0.99, 0.95, 0.99], control_reached=controls)
    assert decision.choose(scores) == Decision(0.05, 0.5)
    assert decision.empty(scores, Decision(0.05, 0.5)) == pytest.approx(0.8)
    assert decision.empty(_scores(dice), Decision(0.05, 0.5)) is None


def test_the_least_probability_costs_no_patient():
    dice = np.full((3, len(THRESHOLDS)), 0.8)
    loud = (0.97,) * 5
    chosen = decision.choose(_scores(dice, reached=[0.99, 0.72, 0.97], control_reached=loud))
    # A logit below 0.72 is 0.49.
    assert chosen.least_probability == 0.45
    # A patient of whom next to nothing is found costs next to nothing when the mask is empty.
    dice[1] = 0.001
    chosen = decision.choose(_scores(dice, reached=[0.99, 0.72, 0.97], control_reached=loud))
    assert chosen.least_probability == 0.9
    # Where any would cost a patient, the lowest.
    dice[1] = 0.8
    chosen = decision.choose(_scores(dice, reached=[0.99, 2e-5, 0.97], control_reached=loud))
    assert chosen.least_probability == decision.LEAST_PROBABILITIES[0]


def test_an_unsure_image_gets_the_dice_of_an_empty_mask():
    dice = np.full((2, len(THRESHOLDS)), 0.5)
    at = Decision(setting=0.3, least_probability=0.6)
    assert list(decision.dice_at(_scores(dice, reached=[0.5, 0.7]), at)) == [0, 0.5]
    assert list(decision.dice_at(_scores(dice, reached=[0.5, 0.7], blank=1.0), at)) == [1, 0.5]


def test_an_own_threshold_leaves_no_mask_empty_so_only_the_least_probability_does():
    logits = np.full((4, 4), -3.0, np.float32)
    histograms = Histograms.of([(logits, logits > 0)] * 2)
    scores = CalibratedScores(histograms, np.full(2, 0.05), np.zeros(2), np.array([0.1, 0.4]))
    assert decision.empty(scores, Decision(Calibration(0.5), 0.3)) == 0.5
    assert decision.empty(scores, Decision(Calibration(0.5), 0.05)) == 0


def test_no_patient_has_a_say_in_its_own_calibration():
    rng = np.random.default_rng(0)
    images = []
    for slope in (0.5, 0.5, 3.0):
        logits = rng.normal(-3, 3, (40, 40)).astype(np.float32)
        images.append((logits, rng.random((40, 40)) < 1 / (1 + np.exp(-slope * logits))))
    of = Histograms.of(images)
    scores = CalibratedScores(of, np.ones(3), np.zeros(3), np.zeros(0))
    alone = of.without(2).calibrate()
    assert decision.nested_dice(scores)[2] == of.dice(alone)[2]
    assert decision.choose(scores).setting == of.calibrate() != alone


def test_one_hot_pixel_is_not_enough():
    logits = np.full((30, 40), -5.0, np.float32)
    logits[0, 0] = 9.0
    logits.flat[: decision.FEWEST_PIXELS - 1] += 1
    assert decision.reached(logits) == pytest.approx(1 / (1 + np.exp(5)))
    logits.flat[decision.FEWEST_PIXELS] += 1
    assert decision.reached(logits) == pytest.approx(1 / (1 + np.exp(4)))
    assert decision.reached(logits[:2]) == 0


def test_what_everyone_reaches_is_told_of_records_old_and_new():
    records = [{"dice": [0.5] * len(THRESHOLDS), "area": 9}, {"area": 0}]
    old = [row | {"peak": 0.9} for row in records]
    new = [row | {"reached": 0.2} for row in records]
    for rows, value in ((old, 0.9), (new, 0.2)):
        scores = oof.threshold_scores(rows)
        assert (scores.reached, scores.control_reached) == ([value], [value])


def test_a_changed_image_is_judged_by_what_is_seen_in_itself():
    logits = np.full((20, 20), 2.0, np.float32)
    of = Histograms.of([(logits, logits > 0)])
    seen = {"pixels": of.pixels[0], "tumour": of.tumour[0], "peak": 2.0}
    seen = {"dice": seen | {"reached": 0.88}, "upside_down": seen | {"reached": 0.3}}
    rows = [{"dice": [], "area": 400, "seen": seen}, {"area": 0, "reached": 0.1}]
    for variant, value in (("dice", 0.88), ("upside_down", 0.3)):
        scores = oof.scores(rows, variant)
        assert (scores.reached, scores.control_reached) == ([value], [0.1])
