"""Whole images of any size, one network or several: the logits lie where the image's pixels are."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from train import detail, segmentation
from train.canonical import Upright
from train.detail import same_slice
from train.network import STRIDE, UNet
from train.segmentation import AIR, Segmentation, ensemble, full_resolution
from train.weights import Weights
from tumour_segmenter.phantom import phantom

UPRIGHT = Upright(torch.ones(64).tolist())


class Halved(torch.nn.Module):
    """Stands for a network whose logits are the uptake it is given, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, uptake: torch.Tensor) -> torch.Tensor:
        assert uptake.shape[2] % STRIDE == uptake.shape[3] % STRIDE == 0
        return self.factor * F.avg_pool2d(uptake, 2)


class Lopsided(torch.nn.Module):
    """Its logits grow from left to right, whatever the image shows."""

    def forward(self, uptake: torch.Tensor) -> torch.Tensor:
        return torch.arange(uptake.shape[3] // 2).float().expand(1, 1, uptake.shape[2] // 2, -1)


def _blob(height: int, width: int, row: float, column: float) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 200)[None, None]


def _network(seed: int) -> UNet:
    torch.manual_seed(seed)
    network = UNet().eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    return network


@pytest.mark.parametrize("size", [(426, 400), (461, 333), (131, 67)])
def test_logits_lie_over_their_image(size):
    image = _blob(*size, row=size[0] - 30, column=size[1] - 25)
    seen = full_resolution([Halved()], image)
    assert seen.shape == image.shape
    assert (seen - image).abs().max() < 0.02


@pytest.mark.parametrize("size", [(1, 1), (2, 399), (63, 5)])
def test_no_image_is_too_small(size):
    logits = Segmentation([Halved()], UPRIGHT).of_image(np.full(size, 200, np.uint8))
    assert logits.shape == size
    assert logits.dtype == np.float32


def test_the_mean_of_all_networks_counts():
    body = _blob(96, 80, 40, 40)
    one, three, both = (
        Segmentation([Halved(f) for f in factors], UPRIGHT, by_slices=False).logits(body)
        for factors in ((1.0,), (3.0,), (1.0, 3.0))
    )
    assert torch.allclose(both, (one + three) / 2, atol=1e-5)
    assert not torch.allclose(one, three, atol=0.1)


def test_with_one_view_every_other_network_sees_the_mirror_image(monkeypatch):
    monkeypatch.setattr(segmentation, "with_detail", lambda logits, body: logits)
    body = torch.rand(1, 1, 64, 64)
    three = Segmentation([Lopsided(), Lopsided(), Halved(0.0)], UPRIGHT, one_view=True)
    assert [len(of) for of in three.views] == [2, 1]
    image, mirror = full_resolution([Lopsided()], body), full_resolution([Lopsided()], body).flip(3)
    assert torch.allclose(three.logits(body), (image + mirror) / 3, atol=1e-5)


def test_the_mirror_image_counts_as_much_as_the_image(monkeypatch):
    monkeypatch.setattr(segmentation, "with_detail", lambda logits, body: logits)
    body = torch.rand(1, 1, 64, 64)
    logits = Segmentation([Lopsided()], UPRIGHT).logits(body)
    assert torch.allclose(logits, logits.flip(3))
    assert torch.allclose(logits, torch.full_like(logits, 15.5))


def test_detail_is_added_to_the_logits():
    body = _blob(96, 80, 40, 40)
    seen = Segmentation([Halved()], UPRIGHT, by_slices=False).logits(body)
    views = (full_resolution([Halved()], view) for view in (body, body.flip(3)))
    plain = (next(views) + next(views).flip(3)) / 2
    assert torch.allclose(seen, detail.with_detail(plain, body), atol=1e-5)
    assert (seen - plain).abs().max() > 0.05


@pytest.mark.parametrize("by_slices", [True, False])
def test_the_rows_of_a_slice_are_averaged_where_labels_were_drawn_so(by_slices):
    body = torch.rand(1, 1, 426, 80, generator=torch.Generator().manual_seed(0))
    seen = Segmentation([Halved()], UPRIGHT, by_slices).logits(body)
    assert torch.equal(seen, seen[:, :, same_slice(426)]) == by_slices


def test_a_vertically_flipped_body_gets_the_flipped_logits_and_air_none():
    image = torch.zeros(1, 1, 426, 200, dtype=torch.uint8)
    noise = torch.Generator().manual_seed(0)
    image[:, :, 40:130, 60:140] = torch.randint(256, (90, 80), generator=noise).byte()
    image[:, :, 300:380, 80:120] = 25
    both = Segmentation([Halved()], UPRIGHT)
    seen = both(image)
    assert torch.equal(both(image.flip(2)).flip(2), seen)
    assert (seen[..., :50] == AIR).all()
    assert (seen[..., 150:] == AIR).all()
    assert (seen[..., 60:140] > AIR).all()


def test_impulse_noise_is_removed_before_the_network_sees_the_image():
    image = torch.full((1, 1, 90, 60), 100, dtype=torch.uint8)
    noisy = image.clone()
    noisy[0, 0, 30, 30] = 255
    both = Segmentation([Halved()], UPRIGHT)
    assert torch.equal(both(noisy), both(image))


def _weights(seed: int, by_slices: bool = True) -> Weights:
    facts = {"settings": json.dumps({"by_slices": by_slices})}
    return Weights(_network(seed), facts, Upright(torch.full((64,), float(seed + 1)).tolist()))


def test_an_ensemble_is_the_mean_of_its_members(monkeypatch):
    monkeypatch.setattr(segmentation, "with_detail", lambda logits, body: logits)
    members = [_weights(0), _weights(1, by_slices=False)]
    both = ensemble(members)
    assert len(both.networks) == 2
    assert not both.training
    assert not both.by_slices  # one member's labels were drawn otherwise
    assert both.upright.weights.tolist() == [1.5] * 64
    assert ensemble(members[:1]).by_slices
    pixels, _ = phantom(130, 120)
    alone = [Segmentation([m.network], both.upright, False).of_image(255 - pixels) for m in members]
    assert np.allclose(both.of_image(255 - pixels), sum(alone) / 2, atol=1e-4)
