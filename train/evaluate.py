"""Whole images through the network, and their Dice."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve import contract
from train import canonical
from train.dataset import Case
from train.network import STRIDE

THRESHOLD = 0.5
MISSED = 0.1
"""A patient with a Dice below this counts as missed."""


def pad_to_stride(uptake: Tensor) -> Tensor:
    """Zeros (no uptake) below and to the right of N×1×H×W, up to multiples of STRIDE."""
    height, width = uptake.shape[-2:]
    return F.pad(uptake, (0, -width % STRIDE, 0, -height % STRIDE))


def mirrored_logits(network: nn.Module, uptake: Tensor) -> Tensor:
    """1×1×H×W uptake of any size -> 1×1×H×W logits: mean of the image's and its mirror's."""
    height, width = uptake.shape[-2:]
    both = pad_to_stride(torch.cat([uptake, uptake.flip(3)]))
    logits = network(both)[:, :, :height, :width]
    return (logits[:1] + logits[1:].flip(3)) / 2


class Segmentation(nn.Module):
    """Everything between uptake and logits: image cleaned and upright, network, turned back."""

    def __init__(self, network: nn.Module, upright: canonical.Upright):
        super().__init__()
        self.network, self.upright = network, upright

    def forward(self, uptake: Tensor) -> Tensor:
        """1×1×H×W float uptake in 0..1 of any size -> 1×1×H×W float logits."""
        uptake = canonical.without_impulses(uptake)
        on_head = self.upright.on_head(uptake)
        logits = mirrored_logits(self.network, self.upright.turn(uptake, on_head))
        return self.upright.turn(logits, on_head)


@torch.no_grad()
def tumour_probability(
    segmentation: Segmentation, uptake: np.ndarray, device: torch.device
) -> np.ndarray:
    """uint8 H×W uptake -> float32 H×W tumour probability.

    The network must be in evaluation mode.
    """
    image = torch.from_numpy(uptake).to(device).float()[None, None] / 255
    return segmentation(image)[0, 0].sigmoid().cpu().numpy()


def dice_of_patients(probabilities: dict[str, np.ndarray], cases: list[Case]) -> dict[str, float]:
    """Dice at THRESHOLD of every patient among the cases."""
    return {
        case.name: contract.dice(case.truth, probabilities[case.name] > THRESHOLD)
        for case in cases
        if case.is_patient
    }
