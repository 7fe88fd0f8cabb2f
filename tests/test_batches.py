import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from train.batches import Batches
from train.config import Config
from train.dataset import Case
from train.transplant import Donor

CONFIG = Config(data="", source_commit="", steps_per_epoch=6, joined=0.5)


def _person(kind: str, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    truth = np.zeros((120, 80), bool)
    truth[50:60, 30:40] = kind == "patient"
    return Case(f"{kind}_{seed:03}", rng.integers(0, 255, truth.shape, np.uint8), truth)


@pytest.fixture(scope="module")
def people() -> tuple[list[Case], list[Case], list[Donor]]:
    patients = [_person("patient", i) for i in range(6)]
    return patients, [_person("control", i) for i in range(6)], [Donor(c) for c in patients]


def test_a_batch_has_as_many_of_each_kind_as_asked_for(people):
    planes, centres, _ = Batches(*people, CONFIG, epoch=0)[0]
    count = CONFIG.patients_per_batch + CONFIG.controls_per_batch
    assert planes.shape == (count, 2, 120, 80)
    assert planes.dtype == torch.uint8
    assert centres.shape == (count, 2)


def test_steps_and_epochs_differ_but_each_is_the_same_again(people):
    batches, later = Batches(*people, CONFIG, epoch=0), Batches(*people, CONFIG, epoch=1)
    assert torch.equal(batches[3][0], batches[3][0])
    assert batches[3][2] == batches[3][2]
    assert batches[3][2] not in (batches[2][2], later[3][2])
    assert not torch.equal(batches[3][0], later[3][0])


def test_processes_that_draw_ahead_change_nothing(people):
    batches = Batches(*people, CONFIG, epoch=2)
    alone = list(batches.ahead_of(torch.device("cpu")))
    ahead = list(DataLoader(batches, batch_size=None, num_workers=1))
    assert len(alone) == len(ahead) == CONFIG.steps_per_epoch
    for one, other in zip(alone, ahead, strict=True):
        assert torch.equal(one[0], other[0])
        assert one[2] == other[2]
