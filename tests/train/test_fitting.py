"""Calibration and operating points are fitted: what each of them is for, it does."""

import numpy as np
import pytest
import torch
from scipy import special

from train.fitting import (
    EDGES,
    LEAST_FACTOR,
    MARGIN,
    MIDDLES,
    MOST,
    Histograms,
    lesion_peaks,
    minimum_probability,
    operating_points,
    relative_peaks,
    threshold_factor,
)
from train.operating_point import FLOOR, Calibration, OperatingPoint, OperatingPoints, calibrated
from tumour_segmenter.lesions import compare


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
    assert minimum_probability([0.0, 40.0, 50.0], 0.8) == MOST < 1


@pytest.mark.parametrize("sensitivity", [0.25, 0.5, 0.8, 0.9])
def test_the_threshold_factor_finds_that_share_of_the_lesions(sensitivity):
    """Counted in masks, of images with ten lesions of one to ten pixels each."""
    rng = np.random.default_rng(2)
    calibration, found, relative, images = Calibration(0.6, -0.2), [], [], []
    for _ in range(4):
        truth = np.zeros((40, 60), bool)
        for i in range(10):
            truth[20, 6 * i : 6 * i + rng.integers(1, 5)] = True
        logits = (rng.normal(-6, 1, truth.shape) + 5 * truth * rng.random(60)).astype(np.float32)
        relative.append(relative_peaks(logits, lesion_peaks(logits, truth), calibration))
        images.append((logits, truth))
    factor = threshold_factor(np.concatenate(relative), sensitivity)
    for logits, truth in images:
        drawn = OperatingPoints(calibration, {}).mask(logits, OperatingPoint(0.0, factor))
        found += compare(truth, drawn).found
    if factor < 1:
        assert np.mean(found) == pytest.approx(sensitivity, abs=1e-9)
    else:
        assert np.mean(found) >= sensitivity


def test_the_threshold_factor_has_bounds():
    assert threshold_factor([1.2, 3.0], 0.8) == 1.0
    assert threshold_factor([1e-9, 1e-8], 0.8) == LEAST_FACTOR
    assert threshold_factor([], 0.8) == 1.0


def test_a_patient_without_tumour_has_no_peaks():
    logits = np.full((4, 5), -15.0, np.float32)
    peaks = lesion_peaks(logits, np.zeros((4, 5), bool))
    assert relative_peaks(logits, peaks, Calibration(1.0)).tolist() == []
    peaks = lesion_peaks(logits, np.ones((4, 5), bool))
    assert relative_peaks(logits, peaks, Calibration(1.0)).tolist() == [0.0]


def test_the_default_empties_no_patient_whatever_the_controls():
    """A patient below most controls: the share of emptied controls is given up for it."""
    controls = np.linspace(-10, -1, 50)
    sure = operating_points([1.0], [4.0, 9.0], controls)
    assert list(sure) == ["sensitive", "balanced", "specific"]
    emptied = {n: (special.expit(controls) <= of.minimum_probability) for n, of in sure.items()}
    assert {n: of.mean() for n, of in emptied.items()} == {
        "sensitive": 0.0, "balanced": 0.62, "specific": 0.8,
    }  # fmt: skip
    faint = operating_points([1.0], [-8.0, 9.0], controls)
    logit = special.logit(faint["balanced"].minimum_probability)
    assert logit == pytest.approx(-8.0 - MARGIN, abs=1e-4)
    assert faint["specific"] == sure["specific"]


def test_no_controls_leave_a_default_that_empties_nothing():
    points = operating_points([0.5, 2.0], [4.0], [])
    assert points["balanced"] == OperatingPoint(0.0, 1.0)
    assert list(points) == ["sensitive", "balanced"]
    assert points["sensitive"].minimum_probability == 0
