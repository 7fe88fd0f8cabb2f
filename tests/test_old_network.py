import pytest
import torch

from train.old_network import STRIDE, GlobalContext, MobileNetUNet


@pytest.fixture(scope="module")
def network() -> MobileNetUNet:
    torch.manual_seed(0)
    return MobileNetUNet().eval()


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "efficientnet_lite0"])
def test_it_is_compact(encoder):
    network = MobileNetUNet(encoder=encoder, context=True)
    assert sum(p.numel() for p in network.parameters()) <= 3_000_000


def test_logits_have_the_images_size(network):
    with torch.no_grad():
        assert network(torch.rand(2, 1, STRIDE, 3 * STRIDE)).shape == (2, 1, STRIDE, 3 * STRIDE)


@pytest.mark.parametrize(("width", "full_resolution"), [(0.5, False), (0.75, True), (1.0, True)])
def test_narrower_and_finer_networks_keep_shapes_and_limits(width, full_resolution):
    network = MobileNetUNet(width, full_resolution).eval()
    assert sum(p.numel() for p in network.parameters()) < 3e6
    with torch.no_grad():
        image = torch.zeros(2, 1, 64, 128)
        assert network(image).shape == (2, 1, 64, 128)
        assert network.half_resolution_logits(image).shape == (2, 1, 32, 64)


def test_blocks_are_skipped_in_training_only():
    torch.manual_seed(0)
    network = MobileNetUNet(0.5, drop_path=0.5)
    uptake = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        first, again = network(uptake), network(uptake)
        assert not torch.equal(first, again)
        network.eval()
        assert torch.equal(network(uptake), network(uptake))
        plain = MobileNetUNet(0.5).eval()
        plain.load_state_dict(network.state_dict())
        assert torch.equal(network(uptake), plain(uptake))


def test_context_lets_a_place_know_what_is_far_away():
    torch.manual_seed(0)
    context = GlobalContext(8)
    context.start_at_nothing()
    x = torch.rand(2, 8, 5, 4)
    assert torch.equal(context(x), x)
    torch.nn.init.normal_(context.transform[-1].weight)
    changed = x.clone()
    changed[0, :, 0, 0] += 5
    difference = (context(changed) - context(x)).abs().sum(dim=1)
    assert (difference[0] > 1e-3).all()
    assert not difference[1].any()


def test_a_network_with_context_is_compact_and_starts_as_one_without():
    torch.manual_seed(0)
    with_context = MobileNetUNet(context=True).eval()
    assert sum(p.numel() for p in with_context.parameters()) <= 3_000_000
    without = MobileNetUNet().eval()
    state = {k: v for k, v in with_context.state_dict().items() if not k.startswith("context.")}
    without.load_state_dict(state)
    x = torch.rand(1, 1, STRIDE, 2 * STRIDE)
    with torch.no_grad():
        assert torch.allclose(with_context(x), without(x))
