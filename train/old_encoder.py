"""The encoders: stages of inverted residuals, as published, for one grey channel.

Sources: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"
(arXiv 1801.04381); Tan and Le 2019, "EfficientNet" (arXiv 1905.11946), whose Lite versions are
inverted residuals with ReLU6 and nothing else: MobileNetV2's blocks, arranged by a search.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Stage(NamedTuple):
    """Inverted residuals of one width, of which the first has the stride."""

    expansion: int
    kernel: int
    channels: int
    repeats: int
    stride: int


STEM_CHANNELS = 32
# MobileNetV2: table 2 of its paper. EfficientNet-Lite0: without the stage of 320 channels and the
# last block of 192, so that encoder and decoder stay below 3 million parameters. EfficientNet-Lite2
# is whole: it only teaches.
STAGES = {
    "mobilenet_v2": (
        Stage(1, 3, 16, 1, 1),
        Stage(6, 3, 24, 2, 2),
        Stage(6, 3, 32, 3, 2),
        Stage(6, 3, 64, 4, 2),
        Stage(6, 3, 96, 3, 1),
        Stage(6, 3, 160, 3, 2),
        Stage(6, 3, 320, 1, 1),
    ),
    "efficientnet_lite0": (
        Stage(1, 3, 16, 1, 1),
        Stage(6, 3, 24, 2, 2),
        Stage(6, 5, 40, 2, 2),
        Stage(6, 3, 80, 3, 2),
        Stage(6, 5, 112, 3, 1),
        Stage(6, 5, 192, 3, 2),
    ),
    "efficientnet_lite2": (
        Stage(1, 3, 16, 1, 1),
        Stage(6, 3, 24, 3, 2),
        Stage(6, 5, 48, 3, 2),
        Stage(6, 3, 88, 4, 2),
        Stage(6, 5, 120, 4, 1),
        Stage(6, 5, 208, 5, 2),
        Stage(6, 3, 352, 1, 1),
    ),
}


def scaled(channels: int, width: float) -> int:
    """Channels times the width multiplier, as a multiple of 8 (MobileNetV2's reference code)."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm and ReLU6, with the child names of torchvision's block."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, act = self
        slow_in_bfloat16 = conv.groups > 1 and (conv.stride[0] > 1 or conv.kernel_size[0] > 3)
        if slow_in_bfloat16 and x.device.type == "cpu":
            # On CPUs the backward pass of such convolutions is up to 3.5 times slower in bfloat16.
            with torch.autocast("cpu", enabled=False):
                x = conv(x.float()).to(x.dtype)
            return act(norm(x))
        return act(norm(conv(x)))


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to the input where the shapes allow.

    drop_path: share of the images, in training, for which nothing is added (stochastic depth:
    Huang et al. 2016, arXiv 1603.09382).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        kernel: int = 3,
        drop_path: float = 0.0,
    ):
        super().__init__()
        hidden = inputs * expansion
        expand = [ConvNormAct(inputs, hidden, kernel=1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            ConvNormAct(hidden, hidden, kernel, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        added = self.conv(x)
        if not self.residual:
            return added
        if self.training and self.drop_path:
            keep = 1 - self.drop_path
            added = added * added.new_empty(len(x), 1, 1, 1).bernoulli_(keep) / keep
        return x + added


class Encoder(nn.Module):
    """One of STAGES behind a stem that halves the resolution.

    width multiplies the channels; drop_path is that of the deepest block, less for earlier ones.
    State-dict keys are `features.0`, `features.1`, ... as in torchvision's `mobilenet_v2`.
    """

    def __init__(
        self, name: str = "mobilenet_v2", width: float = 1.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        stages = STAGES[name]
        channels = scaled(STEM_CHANNELS, width)
        depth = sum(stage.repeats for stage in stages)
        blocks: list[nn.Module] = [ConvNormAct(1, channels, stride=2)]
        self.taps: list[int] = []
        self.tap_channels: list[int] = []
        for stage in stages:
            outputs = scaled(stage.channels, width)
            if stage.stride == 2:
                self._tap(blocks, channels)
            for i in range(stage.repeats):
                blocks.append(
                    InvertedResidual(
                        channels,
                        outputs,
                        stage.stride if i == 0 else 1,
                        stage.expansion,
                        stage.kernel,
                        drop_path * len(blocks) / depth,
                    )
                )
                channels = outputs
        self._tap(blocks, channels)
        self.features = nn.Sequential(*blocks)

    def _tap(self, blocks: list[nn.Module], channels: int) -> None:
        """The last of the blocks so far is the last one of its resolution."""
        self.taps.append(len(blocks) - 1)
        self.tap_channels.append(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """N×1×H×W uptake -> feature maps at 1/2, 1/4, 1/8, 1/16, 1/32 of H×W."""
        taps = []
        for i, block in enumerate(self.features):
            x = block(x)
            if i in self.taps:
                taps.append(x)
        return taps
