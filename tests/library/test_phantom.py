"""The phantom: any size, the same each time, a body to the shipped model, hard for the baseline."""

import zlib

import numpy as np
import pytest

from serve.page import EXAMPLES
from tumour_segmenter.contract import dice
from tumour_segmenter.phantom import phantom, volume
from tumour_segmenter.segmenter import Baseline


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 400), (400, 1), (3, 7), (33, 65), (426, 400), (991, 400), (300, 900), (3000, 2)],
)
@pytest.mark.parametrize("lesions", [0, 1, 9])
def test_any_size_can_be_drawn(shape, lesions):
    pixels, truth = phantom(*shape, lesions=lesions)
    assert pixels.shape == truth.shape == shape
    assert pixels.dtype == truth.dtype == np.uint8
    assert np.isin(truth, (0, 255)).all()
    assert truth.any() <= lesions


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("height", [426, 489, 928])
def test_phantom_looks_like_a_patient(height, seed):
    pixels, truth = phantom(height, 400, seed=seed)
    tumour = truth > 0
    assert 20 < tumour.sum() < 8000
    body = pixels < 250
    assert 0.1 < body.mean() < 0.45
    assert not body[:, :86].any()  # air at the sides
    assert (pixels[20:56, 185:215] == 0).all()  # the brain is black
    assert np.median(pixels[tumour]) < 100 < np.median(pixels[body])


def test_seed_and_size_decide_every_pixel():
    pixels, truth = phantom(seed=1)
    again, truth_again = phantom(seed=1)
    other, _ = phantom(seed=2)
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(truth, truth_again)
    assert (pixels != other).any()


def test_drawing_is_the_same_on_every_machine():
    """A canary's known mask is worth something only if the canary is the same everywhere."""
    pixels, truth = phantom()
    assert (zlib.crc32(pixels), zlib.crc32(truth)) == (3690491654, 3728813494)


def test_lesions_are_what_lesions_change():
    healthy, nothing = phantom(lesions=0)
    ill, truth = phantom(lesions=3)
    assert not nothing.any()
    assert (ill <= healthy).all()  # a projection shows the hottest, so a lesion only darkens
    assert (ill[truth > 0] < healthy[truth > 0]).any()


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_shipped_model_takes_the_examples_for_bodies(shipped, example):
    pixels, truth = phantom(**example)
    mask = shipped(pixels)
    if example["lesions"]:
        assert dice(truth, mask) >= 0.7
    else:
        assert not mask.any()


def test_shipped_model_finds_what_the_server_is_tried_with(shipped):
    pixels, truth = phantom()
    assert dice(truth, shipped(pixels)) >= 0.7


def test_image_is_the_maximum_of_the_volume():
    pixels, truth = phantom(height=489, seed=3)
    suv, tumour, spacing = volume(seed=3)
    assert suv.shape == tumour.shape == (326, 64, 200)
    assert (suv.dtype, tumour.dtype) == (np.float32, bool)
    assert suv.min() == 0
    assert spacing[0] * 326 == pytest.approx(2.036 * 489)
    assert spacing[1] == spacing[2] == pytest.approx(2.036 * 2)
    # Voxels are two columns wide; row 1 of three is in the middle of no slice, row 2 in the second.
    grey = 255 * (1 - np.clip(suv.max(axis=1) / 7, 0, 1))
    between = (grey[1::2, 1:] + grey[1::2, :-1]) / 2
    seen = (pixels[2::3, 1:-1:2].astype(float) + pixels[2::3, 2::2]) / 2
    dark = between < 20  # clipped before or after it is enlarged
    assert np.abs(seen - between)[~dark].mean() < 1
    marked = tumour.any(axis=1)
    assert np.count_nonzero(truth) == pytest.approx(3 * np.count_nonzero(marked), rel=0.1)


def test_baseline_is_fooled_by_hot_organs():
    pixels, truth = phantom()
    assert 0 < dice(truth, Baseline()(pixels)) < 0.6


@pytest.mark.parametrize("wrong", [{"height": 0}, {"width": 0}, {"lesions": -1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="cannot draw"):
        phantom(**wrong)
