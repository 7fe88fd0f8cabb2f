"""Lesions of a mask and how far it agrees with the truth, counted as scipy counts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tumour_segmenter.lesions import compare, hausdorff, label, touching

PAIRS = arrays(bool, st.tuples(st.just(2), st.integers(1, 12), st.integers(1, 12)))
CORNERS = np.ones((3, 3))


def drawn(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Of (top, bottom, left, right) each."""
    pixels = np.zeros((20, 20), np.uint8)
    for top, bottom, left, right in boxes:
        pixels[top:bottom, left:right] = 255
    return pixels


@given(PAIRS)
def test_lesions_are_numbered_as_scipy_numbers_them(masks: np.ndarray) -> None:
    labels, count = label(masks[0])
    expected, expected_count = ndimage.label(masks[0], CORNERS)
    assert count == expected_count
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32


@given(PAIRS)
def test_what_touches_is_taken_whole(masks: np.ndarray) -> None:
    pixels, others = masks
    groups, _ = ndimage.label(pixels, CORNERS)
    expected = np.isin(groups, np.unique(groups[others])[np.unique(groups[others]) > 0])
    np.testing.assert_array_equal(touching(pixels, others), expected)


def test_lesions_are_found_by_a_pixel_and_false_ones_touch_none() -> None:
    truth = drawn((0, 4, 0, 4), (10, 14, 10, 14), (18, 19, 0, 2))
    mask = drawn((3, 5, 3, 5), (17, 19, 10, 12), (6, 7, 18, 20))
    assert compare(truth, mask) == ((16, 16, 2), (True, False, False), 2)
    assert compare(drawn(), drawn()) == ((), (), 0)
    # What touches a lesion only from outside is not counted as found.
    assert compare(drawn((0, 4, 0, 4)), drawn((4, 6, 0, 4))) == ((16,), (False,), 1)


@given(PAIRS)
def test_lesions_are_compared_as_scipy_would(masks: np.ndarray) -> None:
    truth, mask = masks
    groups, count = ndimage.label(truth, CORNERS)
    marks, marked = ndimage.label(mask, CORNERS)
    found = compare(truth, mask)
    assert found.sizes == tuple((groups == n).sum() for n in range(1, count + 1))
    assert found.found == tuple((mask & (groups == n)).any() for n in range(1, count + 1))
    assert found.false_lesions == sum(
        not (truth & (marks == n)).any() for n in range(1, marked + 1)
    )


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


@pytest.mark.parametrize("at_once", [1, 10**6])
@given(masks=PAIRS)
def test_hausdorff_is_what_scipy_says(masks: np.ndarray, at_once: int) -> None:
    truth, mask = masks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tumour_segmenter.lesions.PAIRS_AT_ONCE", at_once)
        found = hausdorff(truth, mask)
    if not truth.any() or not mask.any():
        assert found is None
        return
    edges = [pixels & ~ndimage.binary_erosion(pixels) for pixels in (truth, mask)]
    distances = [ndimage.distance_transform_edt(~b)[a] for a, b in (edges, edges[::-1])]
    assert found == max(np.percentile(distance, 95) for distance in distances)
