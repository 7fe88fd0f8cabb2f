"""The whole function as one module, grey pixels in, mask out: it is exported as one graph."""

import math

import torch
from torch import Tensor, nn

from train.decision import Decision
from train.evaluate import Segmentation


class PixelsToMask(nn.Module):
    """Everything between the PNG that comes in and the PNG that goes out.

    decision: what is tumour; ValueError where its numbers are no probabilities in (0, 1).
    """

    def __init__(self, segmentation: Segmentation, decision: Decision):
        super().__init__()
        for name, probability in vars(decision).items():
            if not 0 < probability < 1:
                raise ValueError(f"{name} is {probability}, expected a probability in (0, 1)")
        self.segmentation, self.decision = segmentation, decision

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 H×W grey, dark = hot -> uint8 H×W, 255 = tumour, else 0."""
        uptake = ((255.0 - pixels.float()) / 255.0)[None, None]
        logits = self.segmentation(uptake)[0, 0]
        tumour = logits > _logit(self.decision.threshold)
        sure = logits.amax(dim=(0, 1)) > _logit(self.decision.least_peak)
        return (tumour & sure).to(torch.uint8) * 255


def _logit(probability: float) -> float:
    """Logits are compared instead of probabilities: that saves a sigmoid for every pixel."""
    return math.log(probability / (1 - probability))
