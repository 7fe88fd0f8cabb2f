"""Whole images through the network, and their Dice."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve import contract
from train import canonical
from train.dataset import Case
from train.detail import with_detail
from train.old_network import STRIDE, MobileNetUNet
from train.slices import mean_of_slices

MISSED = 0.1
"""A patient with a Dice below this counts as missed."""


AIR = -1e4
"""Logit of tumour where there is no body: a probability of 0 whatever the calibration."""
VIEW_MULTIPLE = 8
"""Images are padded to multiples of this before they are seen larger, so that every multiple of an
eighth makes whole numbers of pixels: nothing shifts against the image."""

View = tuple[float, bool]
"""Scale, and whether mirrored."""
Views = tuple[View, ...]
"""Those of an image whose logits are averaged."""


def views_at(scales: Iterable[float]) -> Views:
    """The image and its mirror image at each of the scales."""
    return tuple((scale, mirrored) for scale in scales for mirrored in (False, True))


def pad(image: Tensor, multiple: int) -> Tensor:
    """Zeros (no uptake) below and to the right of N×1×H×W, up to multiples of `multiple`."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple))


def logits_of_view(network: MobileNetUNet, uptake: Tensor, scale: float, mirrored: bool) -> Tensor:
    """1×1×H×W uptake of any size -> 1×1×H×W logits of it as scaled and mirrored.

    scale: a multiple of 1/VIEW_MULTIPLE, at least 1.
    """
    height, width = uptake.shape[-2:]
    view = uptake.flip(3) if mirrored else uptake
    if scale != 1:
        view = F.interpolate(pad(view, VIEW_MULTIPLE), scale_factor=scale, mode="bilinear")
    logits = network.half_resolution_logits(pad(view, STRIDE))
    logits = F.interpolate(logits, scale_factor=2 / scale, mode="bilinear")
    logits = logits[:, :, :height, :width]
    return logits.flip(3) if mirrored else logits


class Segmentation(nn.Module):
    """Everything between uptake and logits: image cleaned, upright, without the air beside the
    body; network; detail; the rows of a slice told the same; all that undone.

    view_scales: at which the network sees an image and its mirror image; by_slices: whether
    labels were drawn slice by slice (train/slices.py).
    """

    def __init__(
        self,
        network: MobileNetUNet,
        upright: canonical.Upright,
        view_scales: Sequence[float],
        by_slices: bool,
    ):
        super().__init__()
        self.network, self.upright = network, upright
        self.view_scales, self.by_slices = tuple(view_scales), by_slices

    def prepare(self, uptake: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """1×1×H×W float uptake in 0..1 of any size -> the same clean and upright, whether it was on
        its head (bool 1×1×1×1), the body's first column and the one behind its last (int64 [1]).
        """
        uptake = canonical.without_impulses(uptake)
        on_head = self.upright.flipped(uptake)
        return self.upright.turn(uptake, on_head), on_head, *canonical.body_columns(uptake)

    def logits(self, body: Tensor) -> Tensor:
        """1×1×H×W uptake, clean and upright -> 1×1×H×W logits, of all views together."""
        views = views_at(self.view_scales)
        return self.merged([logits_of_view(self.network, body, *view) for view in views], body)

    def merged(self, logits: list[Tensor], body: Tensor) -> Tensor:
        """The mean of 1×1×H×W logits of views of the body, with its detail, by slices."""
        merged = with_detail(sum(logits) / len(logits), body)
        return mean_of_slices(merged) if self.by_slices else merged

    def forward(self, uptake: Tensor) -> Tensor:
        """1×1×H×W float uptake in 0..1 of any size -> 1×1×H×W float logits, AIR beside the body."""
        body, on_head, first, last = self.prepare(uptake)
        logits = self.logits(body[..., int(first) : int(last)])
        beside = (int(first), uptake.shape[3] - int(last))
        return self.upright.turn(F.pad(logits, beside, value=AIR), on_head)


@torch.no_grad()
def tumour_logits(
    segmentation: Segmentation, uptake: np.ndarray, device: torch.device
) -> np.ndarray:
    """uint8 H×W uptake -> float32 H×W logits of tumour.

    The network must be in evaluation mode.
    """
    image = torch.from_numpy(uptake).to(device).float()[None, None] / 255
    return segmentation(image)[0, 0].cpu().numpy()


def dice_of_patients(logits: dict[str, np.ndarray], cases: list[Case]) -> dict[str, float]:
    """Dice of every patient among the cases where what is likelier than not is tumour."""
    return {
        case.name: contract.dice(case.truth, logits[case.name] > 0)
        for case in cases
        if case.is_patient
    }
