"""What is saved is what was trained, and nothing else is taken for it."""

import pytest
import safetensors.torch
import torch

from train import weights
from train.canonical import Upright
from train.network import UNet

FACTS = {"fold": "2", "steps": "900", "settings": '{"by_slices": true}'}


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(0)
    network = UNet()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.1, 2)
    return network


@pytest.fixture
def upright() -> Upright:
    return Upright(torch.randn(64, generator=torch.Generator().manual_seed(1)).tolist())


def test_network_facts_and_orientation_come_back(tmp_path, network, upright):
    weights.save(tmp_path / "new/mine.safetensors", network, FACTS, upright)
    loaded = weights.load(tmp_path / "new/mine.safetensors")
    assert loaded.facts == FACTS
    assert torch.equal(loaded.upright.weights, upright.weights)
    assert not loaded.network.training
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(loaded.network(image), network.eval()(image), atol=0.02)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["mine.safetensors"]


def test_filters_are_halved_and_norms_are_exact(tmp_path, network, upright):
    norm = network.encoder.features[3].conv[0][1]
    norm.running_var.fill_(1e6)  # more than float16 can hold
    weights.save(tmp_path / "w", network, FACTS, upright)
    stored = safetensors.torch.load_file(tmp_path / "w")
    assert {t.dtype for t in stored.values() if t.ndim > 1} == {torch.float16}
    assert {t.dtype for t in stored.values() if t.ndim <= 1} == {torch.float32}
    state = weights.load(tmp_path / "w").network.state_dict()
    for name, value in network.state_dict().items():
        if value.ndim == 1:
            assert torch.equal(state[name], value), name
    assert (tmp_path / "w").stat().st_size < 6e6


def test_the_same_weights_are_the_same_bytes(tmp_path, network, upright):
    for name in ("a", "b"):
        weights.save(tmp_path / name, network, FACTS, upright)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_a_network_that_is_not_finite_in_the_file_is_not_written(tmp_path, network, upright, value):
    weights.save(tmp_path / "w", network, FACTS, upright)
    before = (tmp_path / "w").read_bytes()
    network.head.weight.data[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"head.weight is not finite"):
        weights.save(tmp_path / "w", network, FACTS, upright)
    assert (tmp_path / "w").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_another_file_is_refused_by_name(tmp_path, network, upright):
    with pytest.raises(ValueError, match=r"missing: cannot be read as safetensors \(no such file"):
        weights.load(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="text: cannot be read as safetensors"):
        weights.load(tmp_path / "text")
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match="other: holds another network"):
        weights.load(tmp_path / "other")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        weights.load(tmp_path)
