"""Logits become probabilities that may be believed, and masks with the largest expected Dice."""

import numpy as np
import pytest
import torch

from serve import contract
from train import calibration
from train.calibration import EDGES, FLOOR, MIDDLES, Calibration, Histograms


def _image(rng: np.random.Generator, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a network that is twice too sure, and a truth that has `offset` besides."""
    logits = rng.normal(-3 - 2 * offset, 3, (60, 60)).astype(np.float32)
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-(logits / 2 + offset)))
    return logits, truth


@pytest.fixture(scope="module")
def images() -> list[tuple[np.ndarray, np.ndarray]]:
    """The less a network sees in one of them, the more is there that it says too little of."""
    rng = np.random.default_rng(0)
    return [_image(rng, offset) for offset in np.linspace(-0.5, 1.5, 24)]


def test_every_pixel_is_counted_once(images):
    of = Histograms.of(images)
    assert (of.pixels.sum(axis=1) == [logits.size for logits, _ in images]).all()
    assert (of.tumour.sum(axis=1) == [truth.sum() for _, truth in images]).all()
    assert of.pixels[0, MIDDLES > 0].sum() == (images[0][0] > 0).sum()
    assert of.pixels[0, 0] == (images[0][0] <= FLOOR).sum()
    assert len(MIDDLES) == len(EDGES) + 1 == of.pixels.shape[1]


def test_records_of_fewer_bins_count_what_is_low_as_healthy(images):
    of = Histograms.of(images)
    cut = 12
    pixels, tumour = (
        np.concatenate([counts[:, : cut + 1].sum(axis=1, keepdims=True), counts[:, cut + 1 :]], 1)
        for counts in (of.pixels, of.tumour)
    )
    old = Histograms.of_records(pixels.tolist(), tumour.tolist(), of.peak.tolist())
    assert (old.pixels[:, cut + 1 :] == of.pixels[:, cut + 1 :]).all()
    assert not old.pixels[:, 1 : cut + 1].any()
    assert (old.pixels.sum(axis=1) == of.pixels.sum(axis=1)).all()
    same = Histograms.of_records(of.pixels.tolist(), of.tumour.tolist(), of.peak.tolist())
    assert all(np.array_equal(getattr(same, name), value) for name, value in vars(of).items())


def test_calibrated_probabilities_are_how_often_it_is_tumour(images):
    of = Histograms.of(images)
    found = of.calibrate()
    assert found.slope == pytest.approx(0.5, rel=0.1)
    said, true = of.reliability(found)
    assert np.abs(said - true).max() < 0.05
    said, true = of.reliability(Calibration(1.0))
    assert np.abs(said - true).max() > 0.1


def test_an_image_in_which_little_is_seen_is_given_more(images):
    of = Histograms.of(images)
    found = of.calibrate()
    faint, plain = (torch.from_numpy(images[i][0]) for i in (-1, 0))
    for logits, offset in ((faint, 1.5), (plain, -0.5)):
        calibrated = calibration.calibrated(logits, found)
        assert torch.logit(calibrated[logits > -2]).mean() == pytest.approx(
            (logits[logits > -2] / 2 + offset).mean().item(), abs=0.35
        )


def test_a_few_images_that_can_be_told_apart_wholly_give_finite_numbers():
    truth = np.zeros((30, 30), bool)
    truth[:5] = True
    for sign in (1, -1):
        logits = np.where(truth, 6.0, -6.0).astype(np.float32) * sign
        Histograms.of([(logits, truth)] * 2).calibrate()


@pytest.mark.parametrize("seed", range(10))
def test_the_dice_of_histograms_is_that_of_the_masks(seed):
    rng = np.random.default_rng(seed)
    logits = rng.choice(MIDDLES[1:-1], (40, 50)).astype(np.float32) - rng.uniform(0, 6)
    logits = MIDDLES[np.digitize(logits, EDGES, right=True)].astype(np.float32)
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    of = Calibration(0.6, rng.normal(), -0.2, 0.1)
    drawn = calibration.calibrated_mask(torch.from_numpy(logits), of).numpy()
    found = Histograms.of([(logits, truth)]).dice(of)[0]
    assert found == pytest.approx(contract.dice(truth, drawn), abs=1e-6)


def test_where_nothing_is_seen_nothing_is_drawn():
    truth = np.zeros((5, 5), bool)
    logits = np.full((5, 5), -1e4, np.float32)
    surest = Calibration(1.0, 1e3)
    assert not calibration.calibrated_mask(torch.from_numpy(logits), surest).any()
    assert Histograms.of([(logits, truth), (logits, ~truth)]).dice(surest).tolist() == [1, 0]


def _best_by_trying(probability: np.ndarray) -> float:
    """The largest expected Dice over the masks of the k likeliest pixels, for every k."""
    p = np.sort(probability.ravel())[::-1]
    return float((2 * p.cumsum() / (np.arange(1, p.size + 1) + p.sum())).max())


@pytest.mark.parametrize("seed", range(20))
def test_the_expected_dice_is_the_largest_that_any_mask_has(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(rng.uniform(-12, 2), rng.uniform(0.5, 6), (40, 50)).astype(np.float32)
    probability = torch.sigmoid(torch.from_numpy(logits))
    best = _best_by_trying(probability.numpy().astype(np.float64))
    assert calibration.expected_dice(probability).item() == pytest.approx(best, rel=1e-4)


def test_a_faint_lesion_is_drawn_where_a_sure_one_hides_it():
    faint = torch.full((20, 20), -8.9)
    faint[5:9, 5:9] = -3.0
    assert torch.equal(calibration.calibrated_mask(faint, Calibration(1.0)), faint > -5)
    both = faint.clone()
    both[12:18, 12:18] = 5.0
    assert torch.equal(calibration.calibrated_mask(both, Calibration(1.0)), both > 0)


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [((0.0,), "slope is 0.0"), ((1.0, float("nan")), "offset is nan"), ((-1.0,), "above 0")],
)
def test_numbers_that_calibrate_nothing_are_refused(numbers, fault):
    with pytest.raises(ValueError, match=fault):
        Calibration(*numbers)
