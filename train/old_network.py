"""The compact MobileNet-UNet: an encoder of inverted residuals and a slim U-Net decoder.

Source: Ronneberger et al. 2015, "U-Net" (arXiv 1505.04597); for the encoders see there.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.old_encoder import ConvNormAct, Encoder, scaled

STRIDE = 64
"""Image height and width are padded to a multiple of this: half resolution, then five halvings."""

DECODER_CHANNELS = (128, 96, 64, 32)


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
    with `context` the deepest features know of the whole image; `encoder` is one of STAGES.
    """

    def __init__(
        self,
        width: float = 1.0,
        full_resolution: bool = False,
        drop_path: float = 0.0,
        context: bool = False,
        encoder: str = "mobilenet_v2",
    ) -> None:
        super().__init__()
        self.full_resolution = full_resolution
        self.encoder = Encoder(encoder, width, drop_path)
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


FORM = ("width", "full_resolution", "context", "encoder")
"""The settings of a run that say which numbers its network has."""


def network_of(settings: Mapping) -> MobileNetUNet:
    """An untrained network as the settings of a run of any version ask for it."""
    return MobileNetUNet(**{n: settings[n] for n in (*FORM, "drop_path") if n in settings})
