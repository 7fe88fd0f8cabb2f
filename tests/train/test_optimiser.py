"""How fast which weights move, and what is averaged."""

import pytest
import torch

from train import optimiser
from train.config import Config
from train.network import UNet


def _config(**settings) -> Config:
    return Config(data="", steps=1, **settings)


def test_the_learning_rate_warms_up_and_comes_down():
    rates = [optimiser.learning_rate_at(i / 100, 1.0) for i in range(101)]
    assert rates[0] < 0.1
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[51] == pytest.approx(0.5, abs=0.02)
    assert rates[100] == pytest.approx(0, abs=1e-6)
    peak = rates.index(max(rates))
    assert peak == 3
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_images_are_small_first_and_whole_at_the_end():
    scales = ((0.4, 0.75), (1.0, 1.0))
    assert [optimiser.scale_at(p, scales) for p in (0, 0.4, 0.41, 1.0)] == [0.75, 0.75, 1, 1]


def test_the_encoder_learns_at_its_share_and_only_filters_decay():
    network = UNet()
    adam = optimiser.optimiser_of(network, _config(encoder_rate=0.25, weight_decay=0.1))
    found = {id(p): (g["share"], g["weight_decay"]) for g in adam.param_groups for p in g["params"]}
    assert len(found) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        share = 0.25 if name.startswith("encoder.") else 1.0
        assert found[id(parameter)] == (share, 0.1 if parameter.ndim > 1 else 0.0), name


def test_a_step_moves_each_group_by_its_share_of_the_rate():
    network = UNet()
    adam = optimiser.optimiser_of(network, _config(encoder_rate=0.25, weight_decay=0.0))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimiser.step(network, adam, sum(p.sum() for p in network.parameters()), 0.01)
    for name, p in network.named_parameters():
        moved = (before[name] - p).mean().item()
        assert moved == pytest.approx(0.0025 if name.startswith("encoder.") else 0.01, rel=0.01)
        assert p.grad.norm() <= optimiser.GRADIENT_NORM


def test_the_average_follows_closely_at_first_and_slowly_later():
    network = torch.nn.BatchNorm1d(1)
    average = optimiser.average_of(network, _config(ema_decay=0.9))
    assert not average.training
    expected = None
    for count in range(200):
        network.weight.data.fill_(count)
        network.running_mean.fill_(count)
        average.update_parameters(network)
        decay = min(0.9, (1 + count) / (10 + count))
        expected = count if expected is None else decay * expected + (1 - decay) * count
    for value in (average.module.weight.item(), average.module.running_mean.item()):
        assert value == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(190, abs=0.1)  # about 9 steps behind
