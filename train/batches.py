"""Who goes into a batch, drawn step by step: each step from its own seed, by any process."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from train import augment
from train.config import Config
from train.dataset import Case
from train.synthesis import Donor, mix, transplant

WORKERS = 3  # processes that draw ahead for a GPU; a CPU would have to share its cores with them


@dataclass(frozen=True, eq=False)
class Batches(Dataset):
    """One batch for each step of an epoch: what `augment.source` gives, and a seed for the rest.
    All of it follows from the step and the run's seed: resuming needs no generator's state."""

    patients: list[Case]
    controls: list[Case]
    donors: list[Donor]
    config: Config
    first_step: int

    def cases(self, rng: np.random.Generator) -> list[Case]:
        """Some mixed from two, some with transplanted lesions. A patient may be mixed with anyone,
        a control with controls only. Without controls, patients take their place."""
        config, drawn, others = self.config, [], self.controls or self.patients
        counts = config.patients_per_batch, config.controls_per_batch
        shares = config.transplants_onto_patients, config.transplants_onto_controls
        groups, partners = (self.patients, others), (self.patients + self.controls, others)
        for group, pool, count, share in zip(groups, partners, counts, shares, strict=True):
            for i in rng.choice(len(group), count, replace=len(group) < count):
                case = group[i]
                if rng.random() < config.mixed:
                    case = mix(case, pool[rng.integers(len(pool))], rng)
                if self.donors and rng.random() < share:
                    case = transplant(case, self.donors[rng.integers(len(self.donors))], rng)
                drawn.append(case)
        return drawn

    def __len__(self) -> int:
        return self.config.steps_per_epoch

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, int]:
        rng = np.random.default_rng((self.config.seed, self.first_step + step))
        planes, centres = augment.source(self.cases(rng), rng)
        return planes, centres, int(rng.integers(2**62))

    def ahead_of(self, device: torch.device) -> DataLoader:
        """The same in order, drawn while the device is busy where that is a GPU."""
        gpu = device.type == "cuda"
        return DataLoader(self, batch_size=None, num_workers=WORKERS * gpu, pin_memory=gpu)
