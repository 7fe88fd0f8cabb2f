"""What the Dice of a mask is lost to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.scoring.losses import Losses, losses
from tumour_segmenter import contract


def drawn(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Of (top, bottom, left, right) each."""
    pixels = np.zeros((20, 20), np.uint8)
    for top, bottom, left, right in boxes:
        pixels[top:bottom, left:right] = 255
    return pixels


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (drawn((0, 4, 0, 4), (10, 14, 10, 14)), Losses(0, 0, 0)),
        (drawn((0, 4, 0, 4)), Losses(1 / 3, 0, 0)),
        (drawn((0, 4, 0, 4), (10, 14, 10, 14), (6, 8, 0, 4)), Losses(0, 1 / 9, 0)),
        (drawn((0, 4, 0, 8), (10, 14, 10, 14)), Losses(0, 0, 1 / 5)),
        (drawn((0, 2, 0, 4), (16, 18, 0, 4)), Losses(3 / 4 - 1 / 3, 6 / 7 - 3 / 4, 1 / 7)),
        (drawn(), Losses(1, 0, 0)),
        # Touching by a corner is touching.
        (drawn((0, 4, 0, 4), (4, 6, 4, 8), (10, 14, 10, 14)), Losses(0, 0, 1 / 9)),
    ],
    ids=["nothing", "missed", "false", "outline", "all", "empty", "corner"],
)
def test_what_a_dice_is_lost_to(mask: np.ndarray, expected: Losses) -> None:
    truth = drawn((0, 4, 0, 4), (10, 14, 10, 14))
    parts = losses(truth, mask)
    assert dataclasses.astuple(parts) == pytest.approx(dataclasses.astuple(expected))
    assert sum(dataclasses.astuple(parts)) == pytest.approx(1 - contract.dice(truth, mask))


def test_a_mask_of_a_healthy_person_is_lost_to_false_lesions() -> None:
    assert losses(drawn(), drawn((0, 4, 0, 4))) == Losses(0, 1, 0)
    assert losses(drawn(), drawn()) == Losses(0, 0, 0)


@given(arrays.arrays(np.uint8, (2, 8, 8), elements=st.sampled_from([0, 255])))
def test_losses_add_up_to_what_dice_lacks(masks: np.ndarray) -> None:
    parts = dataclasses.astuple(losses(*masks))
    assert sum(parts) == pytest.approx(1 - contract.dice(*masks))
    assert min(parts) >= -1e-9


def test_dice_of_empty_masks() -> None:
    empty, full = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert contract.dice(empty, empty) == 1.0
    assert contract.dice(empty, full) == contract.dice(full, empty) == 0.0
