"""Networks that teach another one (Hinton et al. 2015, arXiv 1503.02531).

They see each image as the student does, cut and varied alike, so that it learns their function and
not their answers to a few images (Beyer et al. 2022, arXiv 2106.05237).
"""

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

from train import checkpoint
from train.detail import with_detail
from train.evaluate import logits_of_view
from train.old_network import MobileNetUNet
from train.provenance import sha256

VIEWS = ((1.0, False), (1.125, True))
"""In which teachers see an image where the student learns what is served: about as good as four.

One teacher sees it in both, several in one each, in turn.
"""


class Teachers:
    """networks: in evaluation mode; they are never trained here.

    as_served: whether they say what is served, of the image in VIEWS.
    """

    def __init__(self, networks: Sequence[MobileNetUNet], as_served: bool):
        self.networks, self.as_served = networks, as_served

    @torch.no_grad()
    def __call__(self, uptake: Tensor) -> Tensor:
        """N×1×H×W uptake in 0..1 -> their tumour probability, float32 N×1×H×W, or N×1×H/2×W/2
        where not as_served."""
        if not self.as_served:
            seen = [network.half_resolution_logits(uptake) for network in self.networks]
            return torch.stack([logits.float().sigmoid() for logits in seen]).mean(0)
        pairs = islice(
            zip(cycle(self.networks), cycle(VIEWS), strict=False),
            max(len(self.networks), len(VIEWS)),
        )
        seen = [logits_of_view(network, uptake, *view).float() for network, view in pairs]
        return with_detail(torch.stack(seen).mean(0), uptake).sigmoid()


def digests(paths: Sequence[str]) -> tuple[str, ...]:
    """What tells the networks at these paths from any others; raises ValueError."""
    return tuple(sha256(checkpoint.file_of(Path(path))) for path in paths)
