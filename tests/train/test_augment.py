import math

import numpy as np
import pytest
import torch

from train import augment
from train.dataset import Case

CPU = torch.device("cpu")


def _marked(height: int, row: int | None = None) -> Case:
    """A person whose only uptake is the lesion, so that truth must follow uptake."""
    row = height // 2 if row is None else row
    uptake, truth = np.zeros((height, 400), np.uint8), np.zeros((height, 400), bool)
    rows, columns = slice(row - 40, row + 40), slice(170, 230)
    uptake[rows, columns], truth[rows, columns] = 255, True
    return Case("patient_000", uptake, truth)


def _batch(cases: list[Case], seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    planes, centres = augment.source(cases, np.random.default_rng(seed))
    return augment.vary(planes, centres, scale, torch.Generator().manual_seed(seed), CPU)


def test_shapes_and_ranges_for_images_of_different_heights():
    uptake, truth = _batch([_marked(426), _marked(991), _marked(30)], seed=0)
    height, width = augment.WINDOW
    assert uptake.shape == (3, 1, height, width)
    assert truth.shape == uptake.shape
    assert uptake.dtype == truth.dtype == torch.float32
    for values in (uptake, truth):
        assert 0 <= values.min() <= values.max() <= 1


def test_a_smaller_scale_shows_the_same_field_of_view():
    whole, half = (_batch([_marked(480)] * 4, seed=5, scale=scale)[1] for scale in (1.0, 0.5))
    assert half.shape == (4, 1, augment.WINDOW[0] // 2, augment.WINDOW[1] // 2)
    shrunk = torch.nn.functional.avg_pool2d(whole, 2)
    assert (shrunk - half).abs().mean() < 0.01


def test_truth_follows_the_uptake_through_every_warp():
    for seed in range(8):
        uptake, truth = _batch([_marked(480)] * 4, seed)
        hot = uptake > 0.4
        overlap = (hot & (truth > 0.4)).sum() / (hot | (truth > 0.4)).sum()
        assert truth.sum() > 0
        assert overlap > 0.8


def test_a_batch_is_fixed_by_its_seeds():
    first, again, other = (_batch([_marked(480)], seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_windows_of_tall_images_mostly_hold_the_lesion():
    case = _marked(991, row=50)
    rng = np.random.default_rng(0)
    near = 0
    for _ in range(100):
        planes, (row, column) = augment.cut(case, rng)
        window = planes[1, int(row - augment.WINDOW[0] / 2) : int(row + augment.WINDOW[0] / 2)]
        near += window.any()
        assert len(planes[0]) == augment.SOURCE_HEIGHT
        assert column == pytest.approx(199.5)  # the midline of all uptake
    assert 66 < near < 88  # two in three, and as many of the others as chance has it


def _maps(n: int = 1500) -> dict[str, torch.Tensor]:
    """What the random maps do, read from the maps alone: rotation in degrees and so on."""
    height, width = augment.WINDOW
    centres = torch.tensor([[height / 2, width / 2]]).repeat(n, 1)
    maps = augment.window_maps(centres, augment.WINDOW, torch.Generator().manual_seed(0))
    aspect = height / width
    x = torch.stack([maps[:, 0, 0], maps[:, 1, 0] * aspect], 1)
    y = torch.stack([maps[:, 0, 1] / aspect, maps[:, 1, 1]], 1)
    return {
        "angle": torch.atan(x[:, 1] / x[:, 0]) * 180 / math.pi,
        "mirrored": x[:, 0] < 0,
        "flipped": y[:, 1] < 0,
        "zoom": (x.norm(dim=1) * y.norm(dim=1)).log() / 2,
        "stretch": (x.norm(dim=1) / y.norm(dim=1)).log() / 2,
        "right": maps[:, 0, 2] * width / 2,
        "down": maps[:, 1, 2] * height / 2,
    }


def test_half_of_the_images_are_mirrored_and_some_vertically_flipped():
    maps = _maps()
    assert maps["mirrored"].float().mean() == pytest.approx(0.5, abs=0.05)
    assert maps["flipped"].float().mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(
    ("what", "most"),
    [("angle", 15.0), ("zoom", 0.28), ("stretch", 0.1), ("right", 16.0), ("down", 24.0)],
)
def test_geometry_varies_evenly_over_its_whole_range(what, most):
    drawn = _maps()[what]
    assert drawn.abs().max() <= most * 1.001
    assert drawn.max() > 0.97 * most
    assert drawn.min() < -0.97 * most
    assert drawn.abs().mean() == pytest.approx(most / 2, rel=0.1)


def _varied(image: torch.Tensor, n: int = 3000) -> torch.Tensor:
    """N×pixels of so many variations of a small image."""
    generator = torch.Generator().manual_seed(0)
    return augment.vary_intensity(image.expand(n, 1, -1, -1), generator).flatten(1)


def test_gain_and_gamma_vary_over_their_whole_range_in_half_of_the_images():
    drawn = _varied(torch.full((8, 8), 0.5)).median(dim=1).values
    assert 0.7 * 0.5**1.35 - 0.04 < drawn.min() < 0.30
    assert 0.88 < drawn.max() < 1.57 * 0.5**0.74 + 0.04
    unchanged = (
        (drawn == 0.5).float().mean()
    )  # neither gain nor gamma, nor noise, which one in 6 has
    assert unchanged == pytest.approx(0.5 * 0.5 * 0.85, abs=0.03)


def test_the_hottest_stay_at_the_top_and_nothing_leaves_the_range():
    drawn = _varied(torch.ones(8, 8))
    assert drawn.max() == 1
    assert (drawn.median(dim=1).values == 1).float().mean() > 0.6
    assert _varied(torch.zeros(8, 8)).min() == 0


def test_some_images_lose_their_finest_detail():
    chess = (torch.arange(64).reshape(8, 8) // 8 + torch.arange(64).reshape(8, 8)) % 2 * 0.5 + 0.2
    drawn = _varied(chess)
    contrast = drawn.std(dim=1) / drawn.mean(dim=1)
    whole = float(chess.std() / chess.mean())
    assert (contrast < 0.1).float().mean() == pytest.approx(0.1, abs=0.02)  # resampled by half
    assert (contrast < 0.5 * whole).float().mean() == pytest.approx(0.17, abs=0.05)  # or blurred


def test_some_images_are_noisy_or_have_impulses():
    drawn = _varied(torch.full((16, 16), 0.5))
    extreme = ((drawn == 0) | (drawn == 1)).float().mean(dim=1)
    assert (extreme > 0).float().mean() == pytest.approx(0.08, abs=0.02)
    assert 0.06 < extreme.max() < 0.15
    middle = drawn.sort(dim=1).values[:, 64:192].std(dim=1)
    assert 0.015 < middle.max() < 0.035  # of sigma 0.06, the middle half
    assert (middle > 1e-3).float().mean() == pytest.approx(0.15, abs=0.03)
