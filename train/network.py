"""EfficientNet-Lite0 for one grey channel, a slim U-Net decoder, attention over the whole image.

Sources: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"
(arXiv 1801.04381); Tan and Le 2019, "EfficientNet" (arXiv 1905.11946), whose Lite versions are
inverted residuals with ReLU6 and nothing else; Ronneberger et al. 2015, "U-Net" (arXiv 1505.04597).
"""

from collections import namedtuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 64  # height and width are padded to a multiple: half resolution, then five halvings


Stage = namedtuple("Stage", "expansion kernel channels repeats stride")
"""Inverted residuals of one width, of which the first has the stride."""
STEM_CHANNELS, DECODER_CHANNELS = 32, (128, 96, 64, 32)
# Without the published stage of 320 channels and the last block of 192, so that encoder and
# decoder together stay below 3 million parameters.
STAGES = (
    Stage(1, 3, 16, 1, 1),
    Stage(6, 3, 24, 2, 2),
    Stage(6, 5, 40, 2, 2),
    Stage(6, 3, 80, 3, 2),
    Stage(6, 5, 112, 3, 1),
    Stage(6, 5, 192, 3, 2),
)


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm and ReLU6, with the child names of torchvision's block."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
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
    """Expand, filter depthwise, project; added to the input where the shapes allow, in training for
    all images but a share of drop_path (stochastic depth: Huang et al. 2016, arXiv 1603.09382)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, stage: Stage, drop_path: float
    ) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.conv = nn.Sequential(
            *([ConvNormAct(inputs, hidden, kernel=1)] if stage.expansion != 1 else []),
            ConvNormAct(hidden, hidden, stage.kernel, stride, groups=hidden),
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
    """STAGES behind a stem that halves the resolution; drop_path is that of the deepest block, less
    for earlier ones."""

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        depth = sum(stage.repeats for stage in STAGES)
        channels = STEM_CHANNELS
        blocks: list[nn.Module] = [ConvNormAct(1, channels, stride=2)]
        taps: list[tuple[int, int]] = []
        for stage in STAGES:
            if stage.stride == 2:  # the last of the blocks so far is the last of its resolution
                taps.append((len(blocks) - 1, channels))
            for i in range(stage.repeats):
                stride = stage.stride if i == 0 else 1
                share = drop_path * len(blocks) / depth
                blocks.append(InvertedResidual(channels, stage.channels, stride, stage, share))
                channels = stage.channels
        self.taps, self.tap_channels = zip(*taps, (len(blocks) - 1, channels), strict=True)
        self.features = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """N×1×H×W uptake -> feature maps at 1/2, 1/4, 1/8, 1/16, 1/32 of H×W."""
        taps = []
        for i, block in enumerate(self.features):
            x = block(x)
            if i in self.taps:
                taps.append(x)
        return taps


class GlobalContext(nn.Module):
    """Adds to every place what is elsewhere in the image: other organs' uptake, other lesions, as a
    transform of HEADS weighted means over the whole map (Cao et al. 2019, "GCNet", arXiv
    1904.11492). It adds nothing before it is trained."""

    HEADS, HIDDEN = 4, 64

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, self.HEADS, 1)
        self.transform = nn.Sequential(
            nn.Linear(self.HEADS * channels, self.HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(self.HIDDEN, channels),
        )
        nn.init.zeros_(self.transform[-1].weight)
        nn.init.zeros_(self.transform[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attention(x).flatten(2).softmax(dim=2)
        found = weights @ x.flatten(2).transpose(1, 2).to(weights.dtype)
        return x + self.transform(found.flatten(1))[:, :, None, None]


class DecoderBlock(nn.Module):
    """Doubles the resolution, joins the skip connection, filters twice."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(inputs, outputs, kernel=1)
        self.filter = nn.Sequential(
            ConvNormAct(outputs + skip, outputs), ConvNormAct(outputs, outputs)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Reducing before enlarging quarters the cost of the 1×1 convolution.
        x = F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        return self.filter(torch.cat([x, skip], dim=1))


class UNet(nn.Module):
    """Uptake at full resolution in, tumour logits at half resolution out: the encoder sees means of
    2×2 pixels. Lesions are at least a dozen pixels wide, so the outline loses little."""

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        self.encoder = Encoder(drop_path)
        *skips, deepest = self.encoder.tap_channels
        self.context = GlobalContext(deepest)
        inputs = (deepest, *DECODER_CHANNELS)
        self.decoder = nn.ModuleList(
            DecoderBlock(i, s, o)
            for i, s, o in zip(inputs, reversed(skips), DECODER_CHANNELS, strict=False)
        )
        # The decoder ends at a quarter of the image's resolution: four logits for each place.
        self.head = nn.Conv2d(DECODER_CHANNELS[-1], 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        # Tumour is rare (about 1 % of pixels): start from that instead of from even odds.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -4.0)

    def forward(self, uptake: Tensor) -> Tensor:
        """N×1×H×W float uptake in 0..1 (1 = hottest) -> N×1×H/2×W/2 float logits. H and W must be
        multiples of STRIDE."""
        *skips, x = self.encoder(F.avg_pool2d(uptake, 2))
        x = self.context(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return F.pixel_shuffle(self.head(x), 2)
