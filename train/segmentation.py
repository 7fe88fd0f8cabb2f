"""From the uptake of a whole image to its tumour logits, by one network or an ensemble."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.canonical import Upright, body_columns, without_impulses
from train.detail import mean_of_slices, with_detail
from train.network import STRIDE, UNet
from train.weights import Weights

AIR = -1e4  # logit of tumour where there is no body: a probability of 0 whatever the calibration


@torch.library.custom_op("tumour_segmenter::to_stride", mutates_args=())
def to_stride(images: Tensor) -> Tensor:
    """N×C×H×W -> the same with zeros below and on the right, H and W multiples of STRIDE.

    An operation of its own because torch.export finds no such multiple in a width that depends on
    pixels. export.graph says what it is in ONNX."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))


@to_stride.register_fake
def _(images: Tensor) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size
    return images.new_empty(*images.shape[:2], STRIDE * size(min=1), STRIDE * size(min=1))


def full_resolution(networks: Sequence[nn.Module], uptake: Tensor) -> Tensor:
    """N×1×H×W float uptake in 0..1 of any size -> N×1×H×W float, the sum of the networks' logits.
    They are added before they are enlarged, which is needed once then."""
    height, width = uptake.shape[2:]
    first, *others = (network(to_stride(uptake)) for network in networks)
    logits = sum(others, first)
    logits = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    return logits[:, :, :height, :width]


class Place(NamedTuple):
    """Where a body is in its image: whether that is vertically flipped, bool [1], and how many
    columns of air are before the body and behind it."""

    flipped: Tensor
    before: int
    behind: int


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
    def views(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """The networks that see the image, and those that see its mirror image."""
        every = self.networks
        return (every[::2], every[1::2]) if self.one_view else (every, every)

    def prepare(self, uptake: Tensor) -> tuple[Tensor, Place]:
        """1×1×H×W uint8 uptake (255 = hottest) of any size -> 1×1×H×W float uptake of the body in
        0..1, clean and upright, and where that is in the image."""
        uptake = without_impulses(uptake)
        first, last = (column.item() for column in body_columns(uptake))
        flipped = self.upright.flipped(uptake)
        body = self.upright.turn(uptake.narrow(3, first, last - first), flipped)
        return body.float() / 255, Place(flipped, first, uptake.shape[3] - last)

    def logits(self, body: Tensor) -> Tensor:
        """1×1×H×W uptake, clean and upright -> 1×1×H×W logits."""
        image, mirror = self.views
        total = full_resolution(image, body) + full_resolution(mirror, body.flip(3)).flip(3)
        logits = with_detail(total / (len(image) + len(mirror)), body)
        return mean_of_slices(logits) if self.by_slices else logits

    def put_back(self, values: Tensor, place: Place, air: float) -> Tensor:
        """1×1×H×W of what prepare gave -> 1×1×H×W of the image; air: the value beside the body."""
        return self.upright.turn(F.pad(values, place[1:], value=air), place.flipped)

    def forward(self, uptake: Tensor) -> Tensor:
        """1×1×H×W uint8 uptake (255 = hottest) of any size -> 1×1×H×W float logits, AIR beside the
        body."""
        body, place = self.prepare(uptake)
        return self.put_back(self.logits(body), place, AIR)

    @torch.no_grad()
    def of_image(self, uptake: np.ndarray) -> np.ndarray:
        """uint8 H×W uptake (255 = hottest) -> float32 H×W logits."""
        image = torch.from_numpy(np.ascontiguousarray(uptake))[None, None]
        return self(image.to(self.upright.weights.device))[0, 0].cpu().numpy()


def ensemble(members: Sequence[Weights], one_view: bool = False) -> Segmentation:
    """The segmentation of one or more trained networks, on the CPU and in evaluation mode. Which
    way up a body is comes from the mean of the members' weights for it."""
    upright = torch.stack([member.upright.weights for member in members]).mean(0)
    by_slices = all(json.loads(m.facts["settings"])["by_slices"] for m in members)
    networks = [member.network for member in members]
    return Segmentation(networks, Upright(upright.tolist()), by_slices, one_view).eval()
