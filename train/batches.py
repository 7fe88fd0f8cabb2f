"""Who goes into a batch, drawn step by step: each step from its own seed, by any process."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from train import augment
from train.config import Config
from train.dataset import Case
from train.join import join
from train.transplant import Donor, transplant

WORKERS = 3
"""Processes that draw ahead for a GPU. A CPU would only have to share its cores with them."""


def draw_cases(
    patients: list[Case],
    controls: list[Case],
    donors: list[Donor],
    config: Config,
    rng: np.random.Generator,
) -> list[Case]:
    """One batch of patients and controls: some put together of two, some with more lesions.

    A patient may go together with anyone, a control with controls only.
    """
    everyone = patients + controls
    drawn = []
    for group, partners, count, share in (
        (patients, everyone, config.patients_per_batch, config.transplants_onto_patients),
        (
            controls or patients,
            controls or patients,
            config.controls_per_batch,
            config.transplants_onto_controls,
        ),
    ):
        for i in rng.choice(len(group), count, replace=len(group) < count):
            case = group[i]
            if rng.random() < config.joined:
                case = join(case, partners[rng.integers(len(partners))], rng)
            if donors and rng.random() < share:
                case = transplant(case, donors[rng.integers(len(donors))], rng)
            drawn.append(case)
    return drawn


class Batches(Dataset):
    """One batch for each step of an epoch: what `augment.source` gives, and a seed for the rest."""

    def __init__(
        self,
        patients: list[Case],
        controls: list[Case],
        donors: list[Donor],
        config: Config,
        epoch: int,
    ):
        self.people, self.config, self.epoch = (patients, controls, donors), config, epoch

    def __len__(self) -> int:
        return self.config.steps_per_epoch

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, int]:
        # All randomness follows from these three: resuming needs no generator's state.
        rng = np.random.default_rng((self.config.seed, self.epoch, step))
        planes, centres = augment.source(draw_cases(*self.people, self.config, rng), rng)
        return planes, centres, int(rng.integers(2**62))

    def ahead_of(self, device: torch.device) -> DataLoader:
        """The same in order, drawn while the device is busy where that is a GPU."""
        on_gpu = device.type == "cuda"
        workers = WORKERS if on_gpu else 0
        return DataLoader(self, batch_size=None, num_workers=workers, pin_memory=on_gpu)
