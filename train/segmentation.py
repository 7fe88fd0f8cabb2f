"""From the uptake of a whole image to its tumour logits, by one network or an ensemble."""

import json
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.canonical import Upright, body_columns, without_impulses
from train.detail import mean_of_slices, with_detail
from train.network import STRIDE, UNet
from train.weights import Weights

AIR = -1e4  # logit of tumour where there is no body: a probability of 0 whatever the calibration


def full_resolution(network: nn.Module, uptake: Tensor) -> Tensor:
    """N×1×H×W float uptake in 0..1 of any size -> N×1×H×W float logits."""
    height, width = uptake.shape[-2:]
    logits = network(F.pad(uptake, (0, -width % STRIDE, 0, -height % STRIDE)))
    logits = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    return logits[:, :, :height, :width]


class Segmentation(nn.Module):
    """Everything between uptake and logits: impulse noise removed, orientation normalised, the air
    beside the body left out; the mean of all networks' logits; detail; the rows of a slice averaged
    (by_slices: whether labels were drawn slice by slice); then the logits put back where the image
    had its pixels. Each network sees image and mirror image, or, with one_view, the first, third...
    the image and the others the mirror image. The networks are in evaluation mode."""

    def __init__(
        self,
        networks: Sequence[UNet],
        upright: Upright,
        by_slices: bool = True,
        one_view: bool = False,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.upright, self.by_slices, self.one_view = upright, by_slices, one_view

    @property
    def passes(self) -> list[tuple[int, bool]]:
        """Of each pass: which network, and whether it sees the mirror image."""
        if self.one_view:
            return [(i, i % 2 == 1) for i in range(len(self.networks))]
        return [(i, mirrored) for i in range(len(self.networks)) for mirrored in (False, True)]

    def prepare(self, uptake: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """1×1×H×W float uptake in 0..1 of any size -> the same clean and upright, whether it was
        vertically flipped (bool 1×1×1×1), and what body_columns gives."""
        uptake = without_impulses(uptake)
        flipped = self.upright.flipped(uptake)
        return self.upright.turn(uptake, flipped), flipped, *body_columns(uptake)

    def logits(self, body: Tensor) -> Tensor:
        """1×1×H×W uptake, clean and upright -> 1×1×H×W logits."""
        seen = []
        for i, mirrored in self.passes:
            view = body.flip(3) if mirrored else body
            logits = full_resolution(self.networks[i], view)
            seen.append(logits.flip(3) if mirrored else logits)
        return self.merge(sum(seen), body)

    def merge(self, total: Tensor, body: Tensor) -> Tensor:
        """The sum of the logits of all passes, and the image -> logits."""
        logits = with_detail(total / len(self.passes), body)
        return mean_of_slices(logits) if self.by_slices else logits

    def forward(self, uptake: Tensor) -> Tensor:
        """1×1×H×W float uptake in 0..1 of any size -> 1×1×H×W float logits, AIR beside the body."""
        body, flipped, first, last = self.prepare(uptake)
        logits = self.logits(body[..., int(first) : int(last)])
        beside = (int(first), uptake.shape[3] - int(last))
        return self.upright.turn(F.pad(logits, beside, value=AIR), flipped)

    @torch.no_grad()
    def of_image(self, uptake: np.ndarray) -> np.ndarray:
        """uint8 H×W uptake (255 = hottest) -> float32 H×W logits."""
        image = torch.from_numpy(np.ascontiguousarray(uptake))[None, None]
        return self(image.to(self.upright.weights.device).float() / 255)[0, 0].cpu().numpy()


def ensemble(members: Sequence[Weights], one_view: bool = False) -> Segmentation:
    """The segmentation of one or more trained networks, on the CPU and in evaluation mode. Which
    way up a body is comes from the mean of the members' weights for it."""
    upright = torch.stack([member.upright.weights for member in members]).mean(0)
    by_slices = all(json.loads(m.facts["settings"])["by_slices"] for m in members)
    networks = [member.network for member in members]
    return Segmentation(networks, Upright(upright.tolist()), by_slices, one_view).eval()
