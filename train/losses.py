"""What training minimises: binary cross-entropy plus soft Dice of each image."""

import torch
import torch.nn.functional as F
from torch import Tensor

BCE_WEIGHT = 4.0
"""Cross-entropy is a mean over all pixels, of which 1 % are tumour: alone it would hardly count."""
DICE_SMOOTHING = 16.0
"""Pixels of the image added above and below the fraction.

It defines Dice for an image without tumour (there it punishes each false positive) and keeps
the gradient of the smallest lesions (about 160 pixels) bounded.
"""


def bce_and_dice(logits: Tensor, truth: Tensor, side: int) -> Tensor:
    """N×1×H×W logits and N×1×H×W truth in 0..1 -> scalar; side: pixels of the image that one is
    high and wide.

    Dice is taken per image, then averaged, as the score is (soft Dice: Milletari et al. 2016,
    "V-Net", arXiv 1606.04797).
    """
    logits = logits.float()
    bce = F.binary_cross_entropy_with_logits(logits, truth)
    probability = torch.sigmoid(logits)
    overlap = (probability * truth).sum(dim=(1, 2, 3))
    total = probability.sum(dim=(1, 2, 3)) + truth.sum(dim=(1, 2, 3))
    smoothing = DICE_SMOOTHING / side**2
    dice = (2 * overlap + smoothing) / (total + smoothing)
    return BCE_WEIGHT * bce + (1 - dice).mean()


def taught(logits: Tensor, truth: Tensor, side: int, probability: Tensor, share: float) -> Tensor:
    """`bce_and_dice`, of which `share` is given to the cross-entropy with what teachers say.

    probability: of tumour, N×1×H×W in 0..1. Only cross-entropy is least at the probability itself:
    their doubts are to be learnt as doubts.
    """
    doubts = BCE_WEIGHT * F.binary_cross_entropy_with_logits(logits.float(), probability)
    return (1 - share) * bce_and_dice(logits, truth, side) + share * doubts
