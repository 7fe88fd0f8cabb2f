import torch

from train.network import STRIDE, Encoder, GlobalContext, InvertedResidual, Stage, UNet


def test_it_is_compact_and_gives_logits_at_half_resolution():
    network = UNet().eval()
    assert sum(p.numel() for p in network.parameters()) <= 3_000_000
    with torch.no_grad():
        logits = network(torch.rand(2, 1, STRIDE, 3 * STRIDE))
    assert logits.shape == (2, 1, STRIDE // 2, 3 * STRIDE // 2)
    assert torch.sigmoid(logits).mean() < 0.1  # tumour is rare from the start


def test_taps_halve_the_resolution_each_time():
    encoder = Encoder().eval()
    with torch.no_grad():
        taps = encoder(torch.rand(2, 1, 64, 96))
    assert [tap.shape[2:] for tap in taps] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tap.shape[1] for tap in taps] == [16, 24, 40, 112, 192]


def test_blocks_are_skipped_in_training_only():
    torch.manual_seed(0)
    network = UNet(drop_path=0.5)
    uptake = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert not torch.equal(network(uptake), network(uptake))
        network.eval()
        plain = UNet().eval()
        plain.load_state_dict(network.state_dict())
        assert torch.equal(network(uptake), plain(uptake))


def test_context_carries_to_a_place_what_is_far_away():
    torch.manual_seed(0)
    context = GlobalContext(8)
    x = torch.rand(2, 8, 5, 4)
    assert torch.equal(context(x), x)  # it begins by adding nothing
    torch.nn.init.normal_(context.transform[-1].weight)
    changed = x.clone()
    changed[0, :, 0, 0] += 5
    difference = (context(changed) - context(x)).abs().sum(dim=1)
    assert (difference[0] > 1e-3).all()
    assert not difference[1].any()


def test_the_image_is_seen_at_half_resolution_by_means_of_2_by_2_pixels():
    torch.manual_seed(0)
    network = UNet().eval()
    chess = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    with torch.no_grad():
        fine, even = network(chess[None, None].float()), network(torch.full((1, 1, 64, 64), 0.5))
    assert torch.allclose(fine, even)


def test_context_is_part_of_the_network():
    torch.manual_seed(0)
    network, uptake = UNet().eval(), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        before = network(uptake)
        network.context.transform[-1].bias.fill_(1.0)
        assert not torch.allclose(network(uptake), before)


def test_what_skipped_blocks_lack_the_others_add():
    block = InvertedResidual(8, 8, 1, Stage(1, 3, 8, 1, 1), drop_path=0.5)
    block.conv = torch.nn.Identity()
    values = block(torch.ones(4000, 8, 1, 1))[:, 0].flatten()
    assert set(values.tolist()) == {1.0, 3.0}
    assert 1.9 < values.mean() < 2.1
