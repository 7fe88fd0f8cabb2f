"""Calibrated probabilities, masks with the largest expected Dice, minimum probabilities."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from train import operating_point
from train.operating_point import (
    EDGES,
    FEWEST_PIXELS,
    FLOOR,
    MIDDLES,
    Calibration,
    Histograms,
    calibrated,
    expected_dice,
    mask,
    minimum_probability,
    reached,
)
from tumour_segmenter import contract

NONE = torch.tensor(0.0)


def _image(rng: np.random.Generator, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a network that is twice too sure, and a truth that has `offset` besides."""
    logits = rng.normal(-3 - 2 * offset, 3, (60, 60)).astype(np.float32)
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-(logits / 2 + offset)))
    return logits, truth


@pytest.fixture(scope="module")
def images() -> list[tuple[np.ndarray, np.ndarray]]:
    """The fewer high logits an image has, the more its tumour is underestimated."""
    rng = np.random.default_rng(0)
    return [_image(rng, offset) for offset in np.linspace(-0.5, 1.5, 24)]


def test_every_pixel_is_counted_once(images):
    of = Histograms.of(images)
    assert (of.pixels.sum(axis=1) == [logits.size for logits, _ in images]).all()
    assert (of.tumour.sum(axis=1) == [truth.sum() for _, truth in images]).all()
    assert of.pixels[0, MIDDLES > 0].sum() == (images[0][0] > 0).sum()
    assert of.pixels[0, 0] == (images[0][0] <= FLOOR).sum()
    assert len(MIDDLES) == len(EDGES) + 1 == of.pixels.shape[1]


def test_the_floor_is_in_the_lowest_bin():
    of = Histograms.of([(np.full((2, 2), FLOOR), np.ones((2, 2), bool))])
    assert of.pixels[0, 0] == of.tumour[0, 0] == 4


def test_the_offset_follows_area_and_peak():
    logits = torch.full((20, 20), -1.0)
    logits.view(-1)[:90] = 2.0
    probability = calibrated(logits, Calibration(1.0, per_log_area=0.5, per_peak=0.25))
    expected = -1 + 0.5 * math.log(90 + 10) + 0.25 * 2
    assert torch.logit(probability[-1, -1]).item() == pytest.approx(expected, abs=1e-4)


def test_an_overconfident_network_is_calibrated(images):
    found = Histograms.of(images).calibrate()
    assert found.slope == pytest.approx(0.5, rel=0.1)
    for logits, truth in images[::6]:
        probability = calibrated(torch.from_numpy(logits), found).numpy()
        for low in (0.1, 0.4, 0.7):
            chosen = (probability > low) & (probability < low + 0.3)
            assert probability[chosen].mean() == pytest.approx(truth[chosen].mean(), abs=0.1)


def test_an_image_with_few_high_logits_is_raised(images):
    found = Histograms.of(images).calibrate()
    for i, offset in ((-1, 1.5), (0, -0.5)):
        logits = torch.from_numpy(images[i][0])
        high = logits > -2
        expected = (logits[high] / 2 + offset).mean().item()
        assert torch.logit(calibrated(logits, found)[high]).mean() == pytest.approx(
            expected, abs=0.35
        )


def test_only_the_chosen_patients_are_calibrated_on(images):
    of = Histograms.of(images)
    chosen = np.arange(len(images)) < 8
    assert of.where(chosen).calibrate() == Histograms.of(images[:8]).calibrate() != of.calibrate()


def test_each_image_weighs_the_same(images):
    faint, sure = images[-1], images[0]
    both = Histograms.of([faint, sure])
    larger = Histograms(both.pixels * [[1], [9]], both.tumour * [[1], [9]], both.peak)
    more = Histograms.of([faint, *[sure] * 9])
    slopes = [of.calibrate().slope for of in (both, larger, more)]
    assert slopes[1] == pytest.approx(slopes[0], abs=0.01)
    assert abs(slopes[2] - slopes[0]) > 0.01


def test_images_that_are_separated_perfectly_give_finite_numbers():
    truth = np.zeros((30, 30), bool)
    truth[:5] = True
    for sign in (1, -1):
        logits = np.where(truth, 6.0, -6.0).astype(np.float32) * sign
        Histograms.of([(logits, truth)] * 2).calibrate()


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_larger_expected_dice(seed):
    rng = np.random.default_rng(seed)
    probability = torch.from_numpy(special.expit(rng.normal(-2, 2, (40, 40))))
    best = expected_dice(probability)
    total = probability.sum()
    for threshold in np.linspace(0.01, 0.9, 60):
        chosen = probability > threshold
        dice = 2 * probability[chosen].sum() / (chosen.sum() + total)
        assert dice <= best + 1e-9


def test_the_mask_is_what_is_above_half_the_expected_dice(images):
    logits, truth = images[4]
    calibration = Histograms.of(images).calibrate()
    image = torch.from_numpy(logits)
    drawn = mask(image, calibration, NONE)
    probability = calibrated(image, calibration)
    assert torch.equal(drawn, probability > expected_dice(probability) / 2)
    assert contract.dice(truth, drawn.numpy()) > 0.3


def test_pixels_at_the_floor_are_healthy():
    logits = torch.full((30, 30), FLOOR)
    logits[0, 0] = FLOOR + 0.5
    drawn = mask(logits, Calibration(0.1, offset=20.0), NONE)
    assert drawn.sum() == 1
    assert drawn[0, 0]


@pytest.mark.parametrize("pixels", [FEWEST_PIXELS - 1, FEWEST_PIXELS])
def test_a_mask_needs_enough_pixels_above_the_minimum_probability(pixels):
    logits = torch.full((40, 50), -6.0)
    logits.view(-1)[:pixels] = 1.0
    calibration, probability = Calibration(1.0), special.expit(1.0)
    below, above = (torch.tensor(probability + by, dtype=torch.float32) for by in (-0.01, 0.01))
    enough = pixels == FEWEST_PIXELS
    assert mask(logits, calibration, NONE).sum() == pixels
    assert mask(logits, calibration, below).sum() == pixels * enough
    assert mask(logits, calibration, above).sum() == 0
    assert mask(logits, calibration, torch.tensor(1.0)).sum() == 0
    assert reached(logits.numpy()) == (1.0 if enough else -6.0)


def test_a_tiny_image_is_drawn_without_a_minimum_only():
    logits = torch.full((3, 3), 4.0)
    assert mask(logits, Calibration(1.0), NONE).all()
    assert not mask(logits, Calibration(1.0), torch.tensor(1e-6)).any()
    assert reached(logits.numpy()) == -math.inf


@pytest.mark.parametrize("specificity", [0.1, 0.5, 0.8, 0.85, 1.0])
def test_the_minimum_probability_empties_that_share_of_controls(specificity):
    rng = np.random.default_rng(1)
    controls = rng.normal(-5, 4, 20)
    chosen = minimum_probability(controls, specificity)
    emptied = special.expit(controls) <= chosen
    assert emptied.mean() == pytest.approx(specificity, abs=0.051)
    assert emptied.mean() >= specificity
    assert (special.expit(controls) <= chosen * 0.9).mean() <= emptied.mean()


def test_it_lies_halfway_between_two_controls():
    assert minimum_probability([0.0, 2.0, 4.0, 6.0], 0.5) == pytest.approx(special.expit(3.0), 1e-4)
    assert minimum_probability([0.0, 40.0, 50.0], 0.8) == operating_point.MOST < 1


def test_no_specificity_needs_no_controls():
    assert minimum_probability([], 0.0) == 0.0
    with pytest.raises(ValueError, match="no controls"):
        minimum_probability([], 0.5)


@pytest.mark.parametrize(
    "numbers",
    [(0.0,), (-1.0,), (math.nan,), (1.0, math.inf), (1.0, 0.0, math.nan), ("1",), (True,)],
)
def test_a_calibration_that_makes_no_sense_is_refused(numbers):
    with pytest.raises(ValueError, match="expected a"):
        Calibration(*numbers)
