"""The whole function as one module, grey pixels in, mask out: it is exported as one graph."""

import math

import torch
from torch import Tensor, nn

from train.evaluate import mirrored_logits


class PixelsToMask(nn.Module):
    """Everything between the PNG that comes in and the PNG that goes out.

    threshold: probability in (0, 1) above which a pixel is tumour; ValueError outside of that.
    """

    def __init__(self, network: nn.Module, threshold: float):
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"the threshold is {threshold}, expected a probability in (0, 1)")
        self.network, self.threshold = network, threshold
        # The threshold is compared with logits: that saves a sigmoid for every pixel.
        self.logit_threshold = math.log(threshold / (1 - threshold))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 H×W grey, dark = hot -> uint8 H×W, 255 = tumour, else 0."""
        uptake = ((255.0 - pixels.float()) / 255.0)[None, None]
        tumour = mirrored_logits(self.network, uptake)[0, 0] > self.logit_threshold
        return tumour.to(torch.uint8) * 255
