"""Whole images through the network, and their Dice."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve import contract
from train.dataset import Case
from train.network import STRIDE

THRESHOLD = 0.5
MISSED = 0.1
"""A patient with a Dice below this counts as missed."""


def pad_to_stride(uptake: Tensor) -> Tensor:
    """Zeros (no uptake) below and to the right of N×1×H×W, up to multiples of STRIDE."""
    height, width = uptake.shape[-2:]
    return F.pad(uptake, (0, -width % STRIDE, 0, -height % STRIDE))


@torch.no_grad()
def tumour_probability(network: nn.Module, uptake: np.ndarray, device: torch.device) -> np.ndarray:
    """uint8 H×W uptake -> float32 H×W tumour probability: mean of the image and its mirror.

    The network must be in evaluation mode.
    """
    height, width = uptake.shape
    image = torch.from_numpy(uptake).to(device).float()[None, None] / 255
    both = pad_to_stride(torch.cat([image, image.flip(3)]))
    logits = network(both.contiguous(memory_format=torch.channels_last))
    logits = logits[:, 0, :height, :width].float()
    return ((logits[0] + logits[1].flip(1)) / 2).sigmoid().cpu().numpy()


def dice_of_patients(probabilities: dict[str, np.ndarray], cases: list[Case]) -> dict[str, float]:
    """Dice at THRESHOLD of every patient among the cases."""
    return {
        case.name: contract.dice(case.truth, probabilities[case.name] > THRESHOLD)
        for case in cases
        if case.is_patient
    }


def empty_share_of_controls(
    probabilities: dict[str, np.ndarray], cases: list[Case]
) -> float | None:
    """Share of controls whose mask at THRESHOLD is empty; None where there is no control."""
    empty = [not (probabilities[c.name] > THRESHOLD).any() for c in cases if not c.is_patient]
    return float(np.mean(empty)) if empty else None
