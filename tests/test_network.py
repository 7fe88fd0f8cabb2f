import pytest
import torch

from train.network import STRIDE, GlobalContext, MobileNetUNet, load_encoder_weights, scaled

# Keys and shapes of torchvision's mobilenet_v2, as its published state dict has them.
TORCHVISION = {
    "features.0.0.weight": (32, 3, 3, 3),
    "features.0.1.running_mean": (32,),
    "features.1.conv.0.0.weight": (32, 1, 3, 3),
    "features.1.conv.1.weight": (16, 32, 1, 1),
    "features.1.conv.2.bias": (16,),
    "features.2.conv.0.0.weight": (96, 16, 1, 1),
    "features.2.conv.1.0.weight": (96, 1, 3, 3),
    "features.2.conv.1.1.running_var": (96,),
    "features.2.conv.2.weight": (24, 96, 1, 1),
    "features.2.conv.3.weight": (24,),
    "features.8.conv.0.0.weight": (384, 64, 1, 1),
    "features.14.conv.2.weight": (160, 576, 1, 1),
    "features.17.conv.0.0.weight": (960, 160, 1, 1),
    "features.17.conv.2.weight": (320, 960, 1, 1),
    "features.17.conv.3.num_batches_tracked": (),
}


@pytest.fixture(scope="module")
def network() -> MobileNetUNet:
    torch.manual_seed(0)
    return MobileNetUNet().eval()


def _published(network: MobileNetUNet) -> dict[str, torch.Tensor]:
    """A state dict as torchvision's, with a colour stem and a classifier."""
    state = {key: torch.rand_like(v.float()) for key, v in network.encoder.state_dict().items()}
    state["features.0.0.weight"] = torch.rand(32, 3, 3, 3)
    state |= {
        "features.18.0.weight": torch.rand(1280, 320, 1, 1),
        "classifier.1.bias": torch.ones(9),
    }
    return state


def test_it_is_compact(network):
    assert sum(p.numel() for p in network.parameters()) <= 3_000_000


def test_the_encoder_has_torchvisions_keys(network):
    state = network.encoder.state_dict()
    for key, shape in TORCHVISION.items():
        expected = (32, 1, 3, 3) if key == "features.0.0.weight" else shape
        assert state[key].shape == expected
    assert {key.split(".")[1] for key in state} == {str(i) for i in range(18)}


def test_logits_have_the_images_size(network):
    with torch.no_grad():
        assert network(torch.rand(2, 1, STRIDE, 3 * STRIDE)).shape == (2, 1, STRIDE, 3 * STRIDE)


def test_pretrained_weights_load_and_colours_are_summed(tmp_path):
    network = MobileNetUNet()
    state = _published(network)
    torch.save(state, tmp_path / "encoder.pth")
    load_encoder_weights(network, tmp_path / "encoder.pth")
    stem = network.encoder.features[0][0].weight
    grey, colour = torch.rand(1, 1, 9, 9), state["features.0.0.weight"]
    expected = torch.nn.functional.conv2d(grey.expand(1, 3, 9, 9), colour)
    assert torch.allclose(torch.nn.functional.conv2d(grey, stem), expected, atol=1e-5)
    key = "features.17.conv.2.weight"
    assert torch.equal(network.encoder.state_dict()[key], state[key])


def _truncated(state):
    del state["features.5.conv.2.weight"]
    return state


def _reshaped(state):
    return state | {"features.5.conv.2.weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncated, "1 encoder weights are missing, first features.5.conv.2.weight"),
        (_reshaped, "does not fit the encoder: .*features.5.conv.2.weight"),
        (lambda state: [1, 2], "holds a list"),
    ],
)
def test_other_weights_are_refused_by_name(tmp_path, spoil, message):
    network = MobileNetUNet()
    torch.save(spoil(_published(network)), tmp_path / "encoder.pth")
    with pytest.raises(ValueError, match=message):
        load_encoder_weights(network, tmp_path / "encoder.pth")


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    (tmp_path / "encoder.pth").write_text("weights")
    with pytest.raises(ValueError, match="cannot be read"):
        load_encoder_weights(MobileNetUNet(), tmp_path / "encoder.pth")


@pytest.mark.parametrize(("width", "full_resolution"), [(0.5, False), (0.75, True), (1.0, True)])
def test_narrower_and_finer_networks_keep_shapes_and_limits(width, full_resolution):
    network = MobileNetUNet(width, full_resolution).eval()
    assert sum(p.numel() for p in network.parameters()) < 3e6
    with torch.no_grad():
        image = torch.zeros(2, 1, 64, 128)
        assert network(image).shape == (2, 1, 64, 128)
        assert network.half_resolution_logits(image).shape == (2, 1, 32, 64)


def test_channels_are_multiples_of_8_that_lose_at_most_a_tenth():
    assert [scaled(c, 1.0) for c in (16, 24, 320)] == [16, 24, 320]
    assert [scaled(c, 0.75) for c in (16, 24, 32)] == [16, 24, 24]
    assert scaled(8, 0.1) == 8


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
