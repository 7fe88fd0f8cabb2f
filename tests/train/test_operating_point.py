"""Calibrated probabilities, masks with the largest expected Dice, the two numbers of a point."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from train.fitting import deciding_logit
from train.operating_point import (
    FEWEST_PIXELS,
    FLOOR,
    Calibration,
    OperatingPoint,
    OperatingPoints,
    calibrated,
    expected_dice,
    mask,
)
from tumour_segmenter import contract

NONE = torch.tensor(0.0)


def test_the_offset_follows_area_and_peak():
    logits = torch.full((20, 20), -1.0)
    logits.view(-1)[:90] = 2.0
    probability = calibrated(logits, Calibration(1.0, per_log_area=0.5, per_peak=0.25))
    expected = -1 + 0.5 * math.log(90 + 10) + 0.25 * 2
    assert torch.logit(probability[-1, -1]).item() == pytest.approx(expected, abs=1e-4)


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


def test_the_mask_is_what_is_above_half_the_expected_dice():
    rng = np.random.default_rng(4)
    logits = rng.normal(-3, 3, (60, 60)).astype(np.float32)
    truth = rng.random(logits.shape) < special.expit(logits / 2)
    calibration = Calibration(0.5)
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
    assert deciding_logit(logits.numpy()) == (1.0 if enough else -6.0)


def test_a_tiny_image_is_drawn_without_a_minimum_only():
    logits = torch.full((3, 3), 4.0)
    assert mask(logits, Calibration(1.0), NONE).all()
    assert not mask(logits, Calibration(1.0), torch.tensor(1e-6)).any()
    assert deciding_logit(logits.numpy()) == -math.inf


def test_a_factor_moves_the_threshold_and_nothing_else():
    logits = np.random.default_rng(0).normal(-3, 3, (60, 60)).astype(np.float32)
    named = {"usual": OperatingPoint(), "half": OperatingPoint(threshold_factor=0.5)}
    points = OperatingPoints(Calibration(0.5, 0.3), named)
    probability = points.probability(logits)
    threshold = float(expected_dice(torch.from_numpy(probability))) / 2
    assert probability.dtype == np.float32
    assert (points.mask(logits, "usual") == (probability > threshold)).all()
    assert (points.mask(logits, "half") == (probability > threshold / 2)).all()
    assert points.mask(logits, "half").sum() > points.mask(logits, "usual").sum()
    sure = OperatingPoint(minimum_probability=1.0, threshold_factor=0.5)
    assert not points.mask(logits, sure).any()


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        *((Calibration, of) for of in [(0.0,), (-1.0,), (math.nan,), (1.0, math.inf), ("1",)]),
        *((Calibration, of) for of in [(1.0, 0.0, math.nan), (True,)]),
        *((OperatingPoint, of) for of in [(-0.1,), (1.1,), (math.nan,), ("0",), (True,)]),
        *((OperatingPoint, of) for of in [(0.0, 0.0), (0.0, -1.0), (0.0, math.inf), (0.0, None)]),
    ],
)
def test_numbers_that_make_no_sense_are_refused(kind, numbers):
    with pytest.raises(ValueError, match="expected"):
        kind(*numbers)
