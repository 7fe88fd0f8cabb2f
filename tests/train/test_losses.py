import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from train.optimiser import BCE_WEIGHT, bce_and_dice

TRUTH = torch.zeros(2, 1, 32, 32)
TRUTH[:, :, 8:16, 8:16] = 1


def _logits(mask: torch.Tensor) -> torch.Tensor:
    return (torch.nn.functional.avg_pool2d(mask, 2) * 2 - 1) * 20


def test_the_loss_is_four_times_cross_entropy_plus_soft_dice():
    logits = torch.zeros(1, 1, 16, 16)
    empty = bce_and_dice(logits, torch.zeros(1, 1, 32, 32)).item()
    assert empty == pytest.approx(4 * math.log(2) + 1 - 4 / (128 + 4), rel=1e-5)
    whole = bce_and_dice(logits, torch.ones(1, 1, 32, 32)).item()
    assert whole == pytest.approx(4 * math.log(2) + 1 - (256 + 4) / (128 + 256 + 4), rel=1e-5)


def test_a_perfect_mask_costs_nothing_and_worse_ones_cost_more():
    half = TRUTH.clone()
    half[:, :, :12] = 0
    perfect, partial, wrong = (
        bce_and_dice(_logits(m), TRUTH).item() for m in (TRUTH, half, 1 - TRUTH)
    )
    assert perfect < 1e-3
    assert perfect + 0.2 < partial < wrong


def test_false_positives_on_controls_are_punished():
    empty = torch.zeros_like(TRUTH)
    assert bce_and_dice(_logits(empty), empty).item() < 1e-3
    assert bce_and_dice(_logits(TRUTH), empty).item() > 0.5


def test_each_image_counts_alike_whatever_its_lesion_area():
    small, large = torch.zeros(1, 1, 128, 128), torch.zeros(1, 1, 128, 128)
    small[:, :, 0:16, 0:16] = 1
    large[:, :, 0:120, 0:120] = 1
    both = torch.cat([small, large])
    logits = torch.full((2, 1, 64, 64), -20.0)
    halved = torch.nn.functional.avg_pool2d(both, 2)
    bce = BCE_WEIGHT * binary_cross_entropy_with_logits(logits, halved)
    # Of the smoothing's few pixels the smaller lesion's share is larger, so it is not quite 1.
    assert 0.9 < (bce_and_dice(logits, both) - bce).item() <= 1
