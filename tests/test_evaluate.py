"""Every view of an image lands where the image is, whatever its scale."""

import pytest
import torch
import torch.nn.functional as F

from train import evaluate
from train.old_network import MobileNetUNet


class Identity:
    """Stands for a network that sees exactly what it is given."""

    @staticmethod
    def half_resolution_logits(uptake: torch.Tensor) -> torch.Tensor:
        assert uptake.shape[2] % evaluate.STRIDE == uptake.shape[3] % evaluate.STRIDE == 0
        return F.avg_pool2d(uptake, 2)


def _blob(height: int, width: int, row: float, column: float) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 200)[None, None]


@pytest.mark.parametrize("size", [(426, 400), (461, 333), (131, 67)])
@pytest.mark.parametrize("scale", [1.0, 1.25, 1.375, 1.5])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_view_lies_over_its_image(size, scale, mirrored):
    image = _blob(*size, row=size[0] - 30, column=size[1] - 25)
    seen = evaluate.logits_of_view(Identity(), image, scale, mirrored)
    assert seen.shape == image.shape
    assert (seen - image).abs().max() < 0.02
    rows = torch.arange(size[0])[:, None]
    columns = torch.arange(size[1])[None]
    for axis in (rows, columns):
        shift = (seen * axis).sum() / seen.sum() - (image * axis).sum() / image.sum()
        assert abs(shift) < 0.05


@pytest.mark.parametrize("size", [(1, 1), (2, 399), (63, 5)])
@pytest.mark.parametrize("view", evaluate.views_at((1.0, 1.25, 1.375)))
def test_no_image_is_too_small_for_a_view(size, view):
    assert evaluate.logits_of_view(Identity(), torch.ones(1, 1, *size), *view).shape[2:] == size


@pytest.mark.parametrize("scale", [1.0, 1.25])
def test_the_mirror_image_seen_mirrored_is_the_image(scale):
    torch.manual_seed(0)
    network = MobileNetUNet(0.5).eval()
    image = _blob(131, 67, row=60, column=20)
    with torch.no_grad():
        plain = evaluate.logits_of_view(network, image, scale, False)
        mirrored = evaluate.logits_of_view(network, image.flip(3), scale, True)
    assert torch.equal(mirrored.flip(3), plain)
