"""The network: EfficientNet-Lite0, a slim U-Net decoder, and attention over the whole image.

Source: Ronneberger et al. 2015, "U-Net" (arXiv 1505.04597); for the encoder see there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.encoder import ConvNormAct, Encoder

STRIDE = 64
"""Image height and width are padded to a multiple of this: half resolution, then five halvings."""

DECODER_CHANNELS = (128, 96, 64, 32)


class GlobalContext(nn.Module):
    """Adds to every place what is elsewhere in the image: other organs' uptake, other lesions.

    Each of HEADS weighted means over the whole map looks for something of its own; their transform
    is added to all places alike (Cao et al. 2019, "GCNet", arXiv 1904.11492). It adds nothing
    before it is trained.
    """

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
    """Uptake at full resolution in, tumour logits at half resolution out.

    The encoder sees the image at half resolution (2×2 means). Lesions are at least a dozen pixels
    wide, so the outline loses little. drop_path: share of the images that skip the deepest
    residual block in training.
    """

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
        """N×1×H×W float uptake in 0..1 (1 = hottest) -> N×1×H/2×W/2 float logits.

        H and W must be multiples of STRIDE.
        """
        *skips, x = self.encoder(F.avg_pool2d(uptake, 2))
        x = self.context(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return F.pixel_shuffle(self.head(x), 2)
