"""Detail is added where something stands out, and nowhere else."""

import torch

from train.detail import LEAST, SURROUNDINGS, UPTAKE, with_detail


def test_even_logits_of_an_even_image_stay_as_they_are():
    logits = torch.full((1, 1, 20, 30), -2.0)
    assert torch.allclose(with_detail(logits, torch.full((1, 1, 20, 30), 0.5)), logits)


def test_a_slope_stays_a_slope():
    slope = torch.linspace(LEAST, 9, 40).expand(1, 1, 30, 40)
    inside = (..., slice(5, -5), slice(5, -5))
    seen = with_detail(slope, slope / 20 + 0.5)
    assert torch.allclose(seen[inside], slope[inside], atol=1e-5)


def test_an_edge_of_uptake_is_an_edge_of_the_logits():
    uptake = torch.zeros(1, 1, 24, 24)
    uptake[..., 12:] = 1
    seen = with_detail(torch.zeros(1, 1, 24, 24), uptake)[0, 0, 12]
    step = UPTAKE * (SURROUNDINGS // 2) / SURROUNDINGS
    assert torch.allclose(seen[11:13], torch.tensor([-step, step]), atol=1e-5)
    assert torch.allclose(seen[:9], torch.zeros(9), atol=1e-5)
    assert torch.allclose(seen[15:], torch.zeros(9), atol=1e-5)


def test_faint_doubts_become_no_sharper():
    faint = LEAST - 5 * torch.rand(1, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(with_detail(faint, torch.full((1, 1, 20, 30), 0.5)), faint)
    assert not torch.allclose(with_detail(faint + 9, torch.full((1, 1, 20, 30), 0.5)), faint + 9)


def test_images_smaller_than_the_surroundings_and_mirror_images():
    generator = torch.Generator().manual_seed(0)
    for size in ((1, 1), (2, 9), (7, 31)):
        logits, uptake = (torch.rand(1, 1, *size, generator=generator) for _ in range(2))
        seen = with_detail(logits, uptake)
        assert seen.shape == logits.shape
        assert torch.allclose(with_detail(logits.flip(3), uptake.flip(3)).flip(3), seen, atol=1e-5)


def test_the_shipped_operating_points_were_fitted_with_these_numbers():
    assert (SURROUNDINGS, UPTAKE, LEAST) == (5, 3.0, -4.0)
