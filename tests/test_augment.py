import numpy as np
import torch

from train import augment
from train.dataset import Case


def _marked(height: int) -> Case:
    """A person whose only uptake is the lesion, so that truth must follow uptake."""
    uptake, truth = np.zeros((height, 400), np.uint8), np.zeros((height, 400), bool)
    rows, columns = slice(height // 2 - 40, height // 2 + 40), slice(170, 230)
    uptake[rows, columns], truth[rows, columns] = 255, True
    return Case("patient_000", uptake, truth)


def _batch(
    cases: list[Case], seed: int, scale: float = 1.0, geometry: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    return augment.make_batch(
        *augment.source(cases, np.random.default_rng(seed)),
        scale,
        0.3,
        geometry,
        torch.Generator().manual_seed(seed),
        torch.device("cpu"),
    )


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
    case = _marked(991)
    rng = np.random.default_rng(0)
    near = 0
    for _ in range(100):
        planes, (row, _) = augment.cut(case, rng)
        window = planes[1, int(row - augment.WINDOW[0] / 2) : int(row + augment.WINDOW[0] / 2)]
        near += window.any()
    assert near > 66


def test_wider_geometry_turns_images_further():
    still, mild, wide = (_batch([_marked(480)] * 16, 3, geometry=g)[1] for g in (0.0, 1.0, 3.0))
    sizes = [truth.sum(dim=(1, 2, 3)) for truth in (still, mild, wide)]
    assert sizes[0].std() < 1 < sizes[1].std() < sizes[2].std()
