import torch

from train.network import STRIDE, Encoder, GlobalContext, UNet


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
