"""How weights move: loss, schedule, the rates of encoder and decoder, the moving average."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from train.config import Config
from train.network import UNet

WARM_UP = 0.03
GRADIENT_NORM = 5.0
BCE_WEIGHT = 4.0  # a mean over all pixels, of which 1 % are tumour: alone it would hardly count
DICE_SMOOTHING = 4.0
"""Pixels at half resolution added above and below the fraction: Dice is then defined for an image
without tumour, and the gradient of the smallest lesions (about 40 such pixels) bounded."""


def bce_and_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """N×1×H×W logits at half resolution, N×1×2H×2W truth in 0..1 -> scalar; the mean of the images'
    soft Dice, as the score is of Dice (Milletari et al. 2016, "V-Net", arXiv 1606.04797)."""
    logits, truth = logits.float(), F.avg_pool2d(truth, 2)
    bce = F.binary_cross_entropy_with_logits(logits, truth)
    probability = torch.sigmoid(logits)
    overlap = (probability * truth).sum(dim=(1, 2, 3))
    total = probability.sum(dim=(1, 2, 3)) + truth.sum(dim=(1, 2, 3))
    dice = (2 * overlap + DICE_SMOOTHING) / (total + DICE_SMOOTHING)
    return BCE_WEIGHT * bce + (1 - dice).mean()


def learning_rate_at(progress: float, peak: float) -> float:
    """Linear warm-up, then a cosine to zero; progress 0..1 is the share of the run done."""
    if progress < WARM_UP:
        return peak * (progress + 1e-3) / WARM_UP
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP))))


def scale_at(progress: float, scales: tuple[tuple[float, float], ...]) -> float:
    """Scale of the training images when the share `progress` of the run is done."""
    return next(scale for until, scale in scales if progress <= until)


def optimiser_of(network: UNet, config: Config) -> torch.optim.Optimizer:
    """AdamW; `share` of each group is the part of the learning rate that it gets."""
    groups = []
    for share, encoder in ((config.encoder_rate, True), (1.0, False)):
        named = network.named_parameters()
        own = [p for name, p in named if name.startswith("encoder.") == encoder]
        # Norms and biases are not decayed: shrinking them only fights batch normalisation.
        for decay, flat in ((config.weight_decay, False), (0.0, True)):
            chosen = [p for p in own if (p.ndim < 2) == flat]
            groups.append({"params": chosen, "weight_decay": decay, "share": share})
    return torch.optim.AdamW(groups, fused=True)


def step(network: UNet, optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """One step down the clipped gradient at that learning rate, of which each group has a share."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
    optimiser.step()


def average_of(network: nn.Module, config: Config) -> AveragedModel:
    """The moving average of weights and buffers, close at first, so that the start is forgotten."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        decay = min(config.ema_decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(decay)(averaged, current, count)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True).eval()
