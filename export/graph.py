"""The whole function as one module, grey pixels in, mask out: it is exported as one graph.

How wide the body is depends on the pixels, and torch.export can trace no shape that does. So the
steps before and after the cut are traced by themselves, and onnx_file joins them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.calibration import calibrated_mask
from train.decision import FEWEST_PIXELS, Decision
from train.evaluate import AIR, Segmentation


class PixelsToMask(nn.Module):
    """Everything between the PNG that comes in and the PNG that goes out.

    decision: what is tumour; its setting is a calibration. ValueError where its least probability
    is not in (0, 1).
    """

    def __init__(self, segmentation: Segmentation, decision: Decision):
        super().__init__()
        if not 0 < decision.least_probability < 1:
            raise ValueError(
                f"least_probability is {decision.least_probability}, expected a number in (0, 1)"
            )
        self.segmentation, self.decision = segmentation, decision

    def prepare(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """uint8 H×W grey, dark = hot -> what Segmentation.prepare gives, and how many columns are
        behind the body (int64 [1])."""
        uptake = ((255.0 - pixels.float()) / 255.0)[None, None]
        body, on_head, first, last = self.segmentation.prepare(uptake)
        return body, on_head, first, last, pixels.shape[1] - last

    def logits(self, body: Tensor) -> Tensor:
        """Only the body's columns of the prepared image -> logits of the same shape."""
        return self.segmentation.logits(body)

    def decide(self, logits: Tensor, on_head: Tensor) -> Tensor:
        """1×1×H×W logits -> uint8 H×W, 255 = tumour, else 0."""
        logits = self.segmentation.upright.turn(logits, on_head)[0, 0]
        tumour = calibrated_mask(logits, self.decision.setting)
        reached = logits > _logit(self.decision.least_probability)
        enough = reached.to(logits.dtype).sum() >= FEWEST_PIXELS
        return (tumour & enough).to(torch.uint8) * 255

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 H×W grey, dark = hot -> uint8 H×W, 255 = tumour, else 0."""
        body, on_head, first, last, behind = self.prepare(pixels)
        logits = self.logits(body[..., int(first) : int(last)])
        return self.decide(F.pad(logits, (int(first), int(behind)), value=AIR), on_head)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
