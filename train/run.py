"""One run: its settings, its network and optimiser, an epoch of training, and the checkpoint."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from train import augment, canonical, checkpoint, evaluate, losses, pretrained, teacher, warm_start
from train.batches import Batches
from train.config import Config
from train.dataset import Case
from train.detail import with_detail
from train.files import replacing
from train.old_network import MobileNetUNet, network_of
from train.provenance import sha256
from train.teacher import Teachers
from train.transplant import Donor

WARM_UP = 0.03
GRADIENT_NORM = 5.0
WARM_START_BATCHES = 20
LONGEST_EPOCH = 600.0
"""Seconds after which an epoch of a run with a time budget ends: a checkpoint follows each epoch,
and what came after the last one is lost when a run is stopped."""


def learning_rate_at(progress: float, peak: float) -> float:
    """Linear warm-up, then a cosine to zero; progress 0..1 is the share of the run done."""
    if progress < WARM_UP:
        return peak * (progress + 1e-3) / WARM_UP
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP))))


def scale_at(progress: float, scales: tuple[tuple[float, float], ...]) -> float:
    """Scale of the training images when the share `progress` of the run is done."""
    return next(scale for until, scale in scales if progress <= until)


def warmed_up_average(decay: float) -> Callable:
    """Exponential moving average that follows closely at first, so that the start is forgotten."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averaged, current, count)

    return update


def _refuse_another(file: Path, digest: str | None) -> None:
    """Raise ValueError where the file is not the one that the config was written for."""
    if sha256(file) != digest:
        raise ValueError(f"{file} is not what the run was started from")


class Run:
    """Network, optimiser, average and progress of one run, and how they are kept on disk."""

    def __init__(self, config: Config, out: Path, device: torch.device):
        self.config, self.out, self.device = config, out, device
        torch.manual_seed(config.seed)
        network = network_of(asdict(config))
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network,
            multi_avg_fn=warmed_up_average(config.ema_decay),
            use_buffers=True,
        ).eval()
        self.optimiser = torch.optim.AdamW(self._parameter_groups(), fused=True)
        self.epoch, self.seconds, self.blended = 0, 0.0, False
        self.teachers: Teachers | None = None

    def _parameter_groups(self) -> list[dict]:
        """For the optimiser, with the share of the learning rate that each has."""
        encoder = list(self.network.encoder.parameters())
        others = [
            p for name, p in self.network.named_parameters() if not name.startswith("encoder.")
        ]
        groups = []
        for share, parameters in ((self.config.encoder_rate, encoder), (1.0, others)):
            # Norms and biases are not decayed: shrinking them only fights batch normalisation.
            flat = [p for p in parameters if p.ndim < 2]
            deep = [p for p in parameters if p.ndim >= 2]
            groups += [
                {"params": deep, "weight_decay": self.config.weight_decay, "share": share},
                {"params": flat, "weight_decay": 0.0, "share": share},
            ]
        return groups

    def save(self) -> None:
        """Write the checkpoint, so that a kill leaves the old or the new one.

        Of a finished run only what is used of it is kept, a quarter: the averaged network.
        """
        state = {
            "config": asdict(self.config),
            "average": self.average.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "blended": self.blended,
        }
        if not self.finished():
            state["network"] = self.network.state_dict()
            state["optimiser"] = self.optimiser.state_dict()
        with replacing(self.out / checkpoint.FILE) as partial:
            torch.save(state, partial)

    def restore(self, state: dict) -> None:
        """Go on where a checkpoint was written; ValueError where an older version began the run."""
        self.average.load_state_dict(state["average"])
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.blended = state.get("blended", False)
        if self.finished():
            return
        if len(state["optimiser"]["param_groups"]) != len(self.optimiser.param_groups):
            raise ValueError(f"{self.out}: was begun by an older version; start it anew")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def make_batch(
        self, planes: Tensor, centres: Tensor, seed: int, progress: float
    ) -> tuple[Tensor, Tensor]:
        """One of Batches -> varied uptake and truth at the scale of now: `augment.make_batch`."""
        uptake, truth = augment.make_batch(
            planes,
            centres,
            scale_at(progress, self.config.scales),
            self.config.intensity,
            self.config.geometry,
            torch.Generator().manual_seed(seed),
            self.device,
        )
        return uptake.contiguous(memory_format=torch.channels_last), truth

    def load_encoder_weights(self) -> None:
        """Start the encoder from the config's weights; raises ValueError where that cannot be."""
        path = pretrained.file_of(self.config.encoder, self.config.encoder_weights)
        _refuse_another(path, self.config.encoder_weights_sha256)
        pretrained.load_encoder_weights(self.network.encoder, path)
        self.average.module.load_state_dict(self.network.state_dict())

    def start_from(self, patients: list[Case], controls: list[Case]) -> None:
        """Take the function of the network that the config says to start from.

        Raises ValueError where that cannot be.
        """
        path = Path(self.config.start_from)
        _refuse_another(checkpoint.file_of(path), self.config.start_from_sha256)
        warm_start.copy(self.network, self._other_network(path, patients, controls))
        self.average.module.load_state_dict(self.network.state_dict())

    def learn_from(self, patients: list[Case], controls: list[Case]) -> None:
        """Let the config's teachers teach; raises ValueError where that cannot be."""
        if teacher.digests(self.config.teachers) != self.config.teachers_sha256:
            raise ValueError("the teachers are not those that the run was started with")
        self.teachers = Teachers(
            [self._other_network(Path(path), patients, controls) for path in self.config.teachers],
            self.config.as_served,
        )

    def _other_network(
        self, path: Path, patients: list[Case], controls: list[Case]
    ) -> MobileNetUNet:
        """The network of a finished run or of a model.onnx, in evaluation mode.

        Raises ValueError where it cannot be read.
        """
        file = checkpoint.file_of(path)
        if file.name == checkpoint.FILE:
            state, _, _ = checkpoint.read(path)
            network = checkpoint.averaged_network(state)
            return network.to(self.device, memory_format=torch.channels_last)
        model = warm_start.read(file)
        drawn = Batches(patients, controls, [], self.config, epoch=0)
        batches = [self.make_batch(*drawn[i], progress=0.0)[0] for i in range(WARM_START_BATCHES)]
        network = warm_start.network_like(model).to(self.device, memory_format=torch.channels_last)
        warm_start.load(network, model, batches)
        return network

    def blend_with_start(self, patients: list[Case], controls: list[Case]) -> None:
        """Move the averaged weights towards the first ones, by config.start_share."""
        first = Run(self.config, self.out, self.device)
        first.start_from(patients, controls)
        weights = first.network.state_dict()
        for name, value in self.average.module.state_dict().items():
            if value.is_floating_point():
                value.lerp_(weights[name], self.config.start_share)
        self.blended = True

    def progress(self, step: int, since: float) -> float:
        """Share of the run done, by time where a time budget is set, else by steps."""
        return self.config.progress(
            self.epoch + step / self.config.steps_per_epoch,
            self.seconds + time.monotonic() - since,
        )

    def train_epoch(self, patients: list[Case], controls: list[Case], donors: list[Donor]) -> float:
        """config.steps_per_epoch steps, fewer when the time is up; return the mean loss.

        Of a run with a time budget, fewer too where they would take longer than LONGEST_EPOCH.
        """
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        )
        self.network.train()
        since, total, taken = time.monotonic(), 0.0, 0
        latest = math.inf if self.config.minutes is None else since + LONGEST_EPOCH
        batches = Batches(patients, controls, donors, self.config, self.epoch)
        steps = tqdm(
            batches.ahead_of(self.device),
            desc=f"epoch {self.epoch + 1}",
            unit="step",
            leave=False,
            disable=None,
        )
        for step, batch in enumerate(steps):
            progress = self.progress(step, since)
            if progress >= 1 or (step and time.monotonic() > latest):
                break
            rate = learning_rate_at(progress, self.config.learning_rate)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["share"]
            uptake, truth = self.make_batch(*batch, progress)
            with autocast:
                logits, side = self._logits(uptake)
                said = self.teachers(uptake) if self.teachers else None
            truth = F.avg_pool2d(truth, side)
            if said is None:
                loss = losses.bce_and_dice(logits, truth, side)
            else:
                loss = losses.taught(logits, truth, side, said, self.config.teacher_share)
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.optimiser.step()
            self.average.update_parameters(self.network)
            total, taken = total + loss.item(), taken + 1
            steps.set_postfix(loss=f"{total / taken:.3f}", done=f"{progress:.0%}")
        self.epoch += 1
        self.seconds += time.monotonic() - since
        return total / max(1, taken)

    def _logits(self, uptake: Tensor) -> tuple[Tensor, int]:
        """What the loss is of, and how many pixels of the image each logit is high and wide."""
        if self.config.as_served:
            return with_detail(self.network(uptake).float(), uptake), 1
        return self.network.half_resolution_logits(uptake), 2

    def finished(self) -> bool:
        return self.progress(0, time.monotonic()) >= 1

    def learn_upright(self, training: list[Case]) -> list[float]:
        """Learn which way up bodies are, for `predict`; return the weights, for the export."""
        weights = canonical.learn_upright(training)
        self.upright = canonical.Upright(weights)
        return weights

    def segmentation(self) -> evaluate.Segmentation:
        """The averaged network as it is exported; after `learn_upright` only."""
        config = self.config
        return evaluate.Segmentation(
            self.average.module, self.upright, config.view_scales, config.by_slices
        ).to(self.device)

    def predict(self, cases: list[Case]) -> dict[str, np.ndarray]:
        """Logits of tumour, float32 H×W by name."""
        segmentation = self.segmentation()
        return {
            case.name: evaluate.tumour_logits(segmentation, case.uptake, self.device)
            for case in tqdm(cases, desc="held-out images", unit="image", leave=False, disable=None)
        }
