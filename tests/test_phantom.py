"""The drawn patient: any size, the same each time, and hard enough for the baseline."""

import zlib

import numpy as np
import pytest

from serve.contract import dice
from serve.phantom import phantom
from serve.segmenter import Baseline


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 400), (400, 1), (3, 7), (33, 65), (426, 400), (991, 400), (300, 900)]
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
def test_patient_looks_like_one(height, seed):
    pixels, truth = phantom(height, 400, seed=seed)
    tumour = truth > 0
    assert 20 < tumour.sum() < 8000
    body = pixels < 250
    assert 0.1 < body.mean() < 0.4
    assert not body[:, :90].any()  # air at the sides
    assert (pixels[12:36, 192:208] == 0).all()  # the brain is black
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
    assert (zlib.crc32(pixels), zlib.crc32(truth)) == (3847269518, 3970444582)


def test_lesions_are_what_lesions_change():
    healthy, nothing = phantom(lesions=0)
    ill, truth = phantom(lesions=3)
    assert not nothing.any()
    assert (ill <= healthy).all()  # a projection shows the hottest, so a lesion only darkens
    assert (ill[truth > 0] < healthy[truth > 0]).any()


def test_baseline_is_fooled_by_hot_organs():
    pixels, truth = phantom()
    assert 0 < dice(truth, Baseline()(pixels)) < 0.6


@pytest.mark.parametrize("wrong", [{"height": 0}, {"width": 0}, {"lesions": -1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="cannot draw"):
        phantom(**wrong)
