import pytest
import torch

from train.old_encoder import STAGES, Encoder, scaled

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


def test_mobilenet_has_torchvisions_keys():
    state = Encoder().state_dict()
    for key, shape in TORCHVISION.items():
        expected = (32, 1, 3, 3) if key == "features.0.0.weight" else shape
        assert state[key].shape == expected
    assert {key.split(".")[1] for key in state} == {str(i) for i in range(18)}


@pytest.mark.parametrize("name", STAGES)
def test_taps_halve_the_resolution_each_time(name):
    encoder = Encoder(name, width=0.5).eval()
    with torch.no_grad():
        taps = encoder(torch.rand(2, 1, 64, 96))
    assert [tap.shape[2:] for tap in taps] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tap.shape[1] for tap in taps] == encoder.tap_channels


def test_channels_are_multiples_of_8_that_lose_at_most_a_tenth():
    assert [scaled(c, 1.0) for c in (16, 24, 320)] == [16, 24, 320]
    assert [scaled(c, 0.75) for c in (16, 24, 32)] == [16, 24, 24]
    assert scaled(8, 0.1) == 8
