"""Networks that teach another one (Hinton et al. 2015, arXiv 1503.02531).

They see each image as the student does, cut and varied alike, so that it learns their function and
not their answers to a few images (Beyer et al. 2022, arXiv 2106.05237).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from train import checkpoint
from train.network import MobileNetUNet
from train.provenance import sha256


class Teachers:
    """networks: in evaluation mode; they are never trained here."""

    def __init__(self, networks: Sequence[MobileNetUNet]):
        self.networks = networks

    @torch.no_grad()
    def __call__(self, uptake: Tensor) -> Tensor:
        """N×1×H×W uptake in 0..1 -> float32 N×1×H/2×W/2, the mean of their tumour probabilities."""
        seen = [network.half_resolution_logits(uptake) for network in self.networks]
        return torch.stack([logits.float().sigmoid() for logits in seen]).mean(0)


def digests(paths: Sequence[str]) -> tuple[str, ...]:
    """What tells the networks at these paths from any others; raises ValueError."""
    return tuple(sha256(checkpoint.file_of(Path(path))) for path in paths)
