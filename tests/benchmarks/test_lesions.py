"""What is reported of a mask beside its Dice."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.scoring.lesions import Losses, agreement, hausdorff, losses
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
    parts = losses(truth > 0, mask > 0)
    assert dataclasses.astuple(parts) == pytest.approx(dataclasses.astuple(expected))
    assert sum(dataclasses.astuple(parts)) == pytest.approx(1 - contract.dice(truth, mask))


def test_a_mask_of_a_healthy_person_is_lost_to_false_lesions() -> None:
    assert losses(drawn() > 0, drawn((0, 4, 0, 4)) > 0) == Losses(0, 1, 0)
    assert losses(drawn() > 0, drawn() > 0) == Losses(0, 0, 0)


def test_lesions_are_found_by_a_pixel_and_false_ones_touch_none() -> None:
    truth = drawn((0, 4, 0, 4), (10, 14, 10, 14), (18, 19, 0, 2))
    mask = drawn((3, 5, 3, 5), (17, 19, 10, 12), (6, 7, 18, 20))
    found = agreement(truth, mask)
    assert found.sizes == (16, 16, 2)
    assert found.found == (True, False, False)
    assert found.false_lesions == 2
    assert agreement(drawn(), drawn()).found == ()
    # What touches a lesion only from outside is not counted as found.
    beside = agreement(drawn((0, 4, 0, 4)), drawn((4, 6, 0, 4)))
    assert (beside.found, beside.false_lesions) == ((False,), 1)


def test_hausdorff_of_known_shapes() -> None:
    square = drawn((5, 10, 5, 10)) > 0
    assert hausdorff(square, square) == 0
    assert hausdorff(square, np.roll(square, 3, axis=1)) == 3
    assert hausdorff(square, square & False) is hausdorff(square & False, square) is None
    # One far pixel of 101 is beyond the 95th percentile, but is the Hausdorff distance itself.
    line = np.zeros((1, 200), bool)
    line[0, :100] = True
    outlier = line.copy()
    outlier[0, 150] = True
    assert hausdorff(line, outlier) == 0
    assert hausdorff(line, outlier, 100) == 51


@given(arrays.arrays(bool, (2, 9, 7)))
def test_hausdorff_is_what_its_definition_says(masks: np.ndarray) -> None:
    def edge(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inside)

    truth, mask = masks
    if not truth.any() or not mask.any():
        assert hausdorff(truth, mask) is None
        return
    distances = np.linalg.norm(edge(truth)[:, None] - edge(mask)[None], axis=2)
    expected = max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))
    assert hausdorff(truth, mask) == pytest.approx(expected)


@given(arrays.arrays(np.uint8, (2, 8, 8), elements=st.sampled_from([0, 255])))
def test_losses_add_up_to_what_dice_lacks(masks: np.ndarray) -> None:
    parts = dataclasses.astuple(agreement(*masks).losses)
    assert sum(parts) == pytest.approx(1 - contract.dice(*masks))
    assert min(parts) >= -1e-9


@given(arrays.arrays(bool, (2, 9, 7)))
def test_training_reports_the_same_figures(masks: np.ndarray) -> None:
    """Two short files, as train must not import benchmarks, and serve must not need scipy."""
    training = pytest.importorskip("train.lesion_metrics")
    truth, mask = masks
    here = agreement(truth, mask)
    sizes, found, false = training.lesions(truth, mask)
    assert (here.sizes, here.found, here.false_lesions) == (tuple(sizes), tuple(found), false)
    assert here.hausdorff == training.hausdorff(truth, mask)


def test_dice_of_empty_masks() -> None:
    empty, full = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert contract.dice(empty, empty) == 1.0
    assert contract.dice(empty, full) == contract.dice(full, empty) == 0.0
