"""The compact MobileNet-UNet: a MobileNetV2 encoder and a slim U-Net decoder.

Sources: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"
(arXiv 1801.04381); Ronneberger et al. 2015, "U-Net" (arXiv 1505.04597).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 64
"""Image height and width are padded to a multiple of this: half resolution, then five halvings."""

# expansion t, output channels c, repeats n, stride s: table 2 of the MobileNetV2 paper
INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# The last block of each resolution, from 1/2 to 1/32 of the encoder's input.
TAPS = (1, 3, 6, 13, 17)
DECODER_CHANNELS = (128, 96, 64, 32)


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
        if conv.groups > 1 and conv.stride[0] > 1 and x.device.type == "cpu":
            # On CPUs the backward pass of this convolution is 3.5 times slower in bfloat16.
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
        self, inputs: int, outputs: int, stride: int, expansion: int, drop_path: float = 0.0
    ):
        super().__init__()
        hidden = inputs * expansion
        expand = [ConvNormAct(inputs, hidden, kernel=1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            ConvNormAct(hidden, hidden, stride=stride, groups=hidden),
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
    """MobileNetV2 up to its last inverted residual, for one grey channel.

    State-dict keys are `features.0` ... `features.17` as in torchvision's `mobilenet_v2`.
    """

    def __init__(self, width: float = 1.0, drop_path: float = 0.0) -> None:
        super().__init__()
        channels = scaled(32, width)
        depth = sum(repeats for _, _, repeats, _ in INVERTED_RESIDUALS)
        blocks: list[nn.Module] = [ConvNormAct(1, channels, stride=2)]
        made = [channels]
        for expansion, base, repeats, stride in INVERTED_RESIDUALS:
            outputs = scaled(base, width)
            for i in range(repeats):
                drop = drop_path * len(blocks) / depth
                blocks.append(
                    InvertedResidual(channels, outputs, stride if i == 0 else 1, expansion, drop)
                )
                channels = outputs
                made.append(channels)
        self.features = nn.Sequential(*blocks)
        self.tap_channels = [made[i] for i in TAPS]

    def forward(self, x: Tensor) -> list[Tensor]:
        """N×1×H×W uptake -> feature maps at 1/2, 1/4, 1/8, 1/16, 1/32 of H×W."""
        taps = []
        for i, block in enumerate(self.features):
            x = block(x)
            if i in TAPS:
                taps.append(x)
        return taps


class GlobalContext(nn.Module):
    """Tells every place what there is elsewhere in the image: other organs' uptake, other lesions.

    Each of HEADS weighted means over the whole map looks for something of its own; what they find
    is added to all places alike (Cao et al. 2019, "GCNet", arXiv 1904.11492).
    """

    HEADS, HIDDEN = 4, 64

    def __init__(self, channels: int):
        super().__init__()
        self.attention = nn.Conv2d(channels, self.HEADS, 1)
        self.transform = nn.Sequential(
            nn.Linear(self.HEADS * channels, self.HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(self.HIDDEN, channels),
        )

    def start_at_nothing(self) -> None:
        """Add nothing to begin with, as the network without it."""
        nn.init.zeros_(self.transform[-1].weight)
        nn.init.zeros_(self.transform[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attention(x).flatten(2).softmax(dim=2)
        found = weights @ x.flatten(2).transpose(1, 2).to(weights.dtype)
        return x + self.transform(found.flatten(1))[:, :, None, None]


class DecoderBlock(nn.Module):
    """Doubles the resolution, joins the skip connection, filters twice."""

    def __init__(self, inputs: int, skip: int, outputs: int):
        super().__init__()
        self.reduce = ConvNormAct(inputs, outputs, kernel=1)
        self.filter = nn.Sequential(
            ConvNormAct(outputs + skip, outputs), ConvNormAct(outputs, outputs)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Reducing before enlarging quarters the cost of the 1×1 convolution.
        x = F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        return self.filter(torch.cat([x, skip], dim=1))


class MobileNetUNet(nn.Module):
    """Uptake at full resolution in, tumour logits at full resolution out.

    The encoder sees the image at half resolution (2×2 means), or as it is where
    `full_resolution`; the logits come at half resolution either way and are enlarged bilinearly.
    Lesions are at least a dozen pixels wide, so the outline loses little. `width` multiplies the
    channels; `drop_path` is the share of images that skip the deepest residual block in training;
    with `context` the deepest features know of the whole image.
    """

    def __init__(
        self,
        width: float = 1.0,
        full_resolution: bool = False,
        drop_path: float = 0.0,
        context: bool = False,
    ) -> None:
        super().__init__()
        self.full_resolution = full_resolution
        self.encoder = Encoder(width, drop_path)
        *skips, deepest = self.encoder.tap_channels
        self.context = GlobalContext(deepest) if context else nn.Identity()
        outputs = [scaled(channels, width) for channels in DECODER_CHANNELS]
        self.decoder = nn.ModuleList(
            DecoderBlock(i, s, o)
            for i, s, o in zip([deepest, *outputs], reversed(skips), outputs, strict=False)
        )
        # Of an image at half resolution, the decoder ends at a quarter: four logits for each.
        self.head = nn.Conv2d(outputs[-1], 1 if full_resolution else 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        # Tumour is rare (about 1 % of pixels): start from that instead of from even odds.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -4.0)
        if context:
            self.context.start_at_nothing()

    def half_resolution_logits(self, uptake: Tensor) -> Tensor:
        """N×1×H×W float uptake in 0..1 -> N×1×H/2×W/2 float logits; H, W multiples of STRIDE."""
        *skips, x = self.encoder(uptake if self.full_resolution else F.avg_pool2d(uptake, 2))
        x = self.context(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        logits = self.head(x)
        return logits if self.full_resolution else F.pixel_shuffle(logits, 2)

    def forward(self, uptake: Tensor) -> Tensor:
        """N×1×H×W float uptake in 0..1 (1 = hottest) -> N×1×H×W float logits.

        H and W must be multiples of STRIDE.
        """
        logits = self.half_resolution_logits(uptake)
        return F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)


def network_of(settings: Mapping) -> MobileNetUNet:
    """An untrained network as the settings of a run of any version ask for it."""
    names = ("width", "full_resolution", "drop_path", "context")
    return MobileNetUNet(**{name: settings[name] for name in names if name in settings})


def load_encoder_weights(network: MobileNetUNet, path: Path) -> None:
    """Load a torchvision MobileNetV2 state dict into the encoder.

    A three-channel stem is summed to one grey channel, as three equal channels would act.
    Weights past `features.17` (the classifier) are left out.

    Raises ValueError where the file is not such a state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a torch state dict ({error})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}, expected a state dict")
    wanted = network.encoder.state_dict()
    chosen = {key: value for key, value in state.items() if key in wanted}
    missing = sorted(set(wanted) - set(chosen))
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} encoder weights are missing, first {missing[0]}; "
            "expected the state dict of torchvision's mobilenet_v2"
        )
    stem = "features.0.0.weight"
    if chosen[stem].shape[1] == 3:
        chosen[stem] = chosen[stem].sum(dim=1, keepdim=True)
    try:
        network.encoder.load_state_dict(chosen)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: does not fit the encoder: {detail}") from error
