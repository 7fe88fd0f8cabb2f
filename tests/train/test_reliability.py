"""The expected calibration error of probabilities that are known to be right or wrong."""

import numpy as np
import pytest

from train import reliability


def _image(seed: int, too_sure: float = 1.0) -> np.ndarray:
    """Counts of an image of which each pixel is tumour with its probability, to that power."""
    rng = np.random.default_rng(seed)
    probability = rng.random((200, 200)).astype(np.float32)
    return reliability.counts(probability, rng.random(probability.shape) < probability**too_sure)


def test_right_probabilities_have_no_error():
    found = reliability.summary([_image(seed) for seed in range(4)])
    error, (low, high) = found["expected_calibration_error"]
    assert error < 0.006
    assert low <= high < 0.015
    for _, probability, share, (low, high) in found["bins"]:
        assert share == pytest.approx(probability, abs=0.02)
        assert low <= share <= high


def test_wrong_probabilities_have_their_mean_distance_as_error():
    found = reliability.summary([_image(seed, too_sure=2) for seed in range(4)])
    assert found["expected_calibration_error"][0] == pytest.approx(1 / 2 - 1 / 3, abs=0.01)
    above = np.linspace(0.1, 1, 1000)
    error = found["expected_calibration_error_from_a_tenth"][0]
    assert error == pytest.approx((above - above**2).mean(), abs=0.01)


def test_healthy_pixels_hide_an_error_that_the_others_show():
    probability = np.full((100, 100), 0.001)
    probability[:10, :10] = 0.5
    found = reliability.summary([reliability.counts(probability, probability > 2)] * 2)
    assert found["expected_calibration_error"][0] == pytest.approx(0.006, abs=0.0001)
    assert found["expected_calibration_error_from_a_tenth"] == [0.5, [0.5, 0.5]]
    assert [row[0] for row in found["bins"]] == [2 * 9900, 2 * 100]


def test_a_probability_of_one_has_a_bin():
    ones = np.ones((2, 3))
    counted = reliability.counts(ones, ones > 0)
    assert counted[-1].tolist() == [6, 6, 6]
    assert not counted[:-1].any()
