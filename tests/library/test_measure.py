"""What is counted in a mask, and when it cannot be right."""

import numpy as np
import pytest

from tumour_segmenter.measure import measure, share_warning


def test_body_is_what_is_darker_than_air():
    pixels = np.array([[255, 250, 249, 0]], np.uint8)
    counted = measure(pixels, np.array([[0, 0, 0, 255]], np.uint8))
    assert (counted.lesions, counted.tumour_pixels, counted.body_pixels) == (1, 1, 2)
    assert counted.share_of_body == 0.5
    assert measure(pixels[:, :1], np.zeros((1, 1), np.uint8)).share_of_body == 0


def test_absurd_share_of_the_body_is_a_warning():
    pixels = np.zeros((10, 10), np.uint8)
    mask = np.zeros((10, 10), np.uint8)
    mask[:4] = 255
    assert measure(pixels, mask).warning == ""
    mask[4, 0] = 255
    assert measure(pixels, mask).warning.startswith("the mask marks 41% of the body; ")
    assert measure(np.full((10, 10), 255, np.uint8), mask).warning.startswith(
        "the mask marks air only"
    )


@pytest.mark.parametrize("body", [0, 1, 100])
def test_empty_mask_is_no_warning(body):
    assert share_warning(0, body) == ""
