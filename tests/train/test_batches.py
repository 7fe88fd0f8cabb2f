import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from train.batches import Batches
from train.config import Config
from train.dataset import Case
from train.synthesis import Donor

CONFIG = Config(data="", steps=1, steps_per_epoch=6)


def _person(kind: str, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    uptake = rng.integers(0, 90, (120, 80), np.uint8)
    truth = np.zeros((120, 80), bool)
    if kind == "patient":
        truth[50:60, 30:40], uptake[50:60, 30:40] = True, 250
    return Case(f"{kind}_{seed:03}", uptake, truth)


@pytest.fixture(scope="module")
def people() -> tuple[list[Case], list[Case]]:
    return [_person("patient", i) for i in range(6)], [_person("control", i) for i in range(6)]


def _drawn(people, config: Config, times: int = 20) -> list[Case]:
    donors = [Donor(case) for case in people[0]]
    return [
        case
        for seed in range(times)
        for case in Batches(*people, donors, config, 0).cases(np.random.default_rng(seed))
    ]


def test_a_batch_has_as_many_of_each_kind_as_asked_for(people):
    planes, centres, _ = Batches(
        *people, [Donor(case) for case in people[0]], CONFIG, first_step=0
    )[0]
    assert planes.shape == (15 + 9, 2, 120, 80)
    assert planes.dtype == torch.uint8
    assert centres.shape == (24, 2)
    config = Config(data="", steps=1, patients_per_batch=2, controls_per_batch=5)
    assert [case.is_patient for case in _drawn(people, config, 1)] == [True] * 2 + [False] * 5


def test_lesions_are_transplanted_onto_patients_and_more_often_onto_controls(people):
    config = Config(data="", steps=1, mixed=0.0)
    drawn = _drawn(people, config)
    controls = [case.truth.any() for case in drawn if not case.is_patient]
    assert np.mean(controls) == pytest.approx(0.7, abs=0.15)
    grown = [case.truth.sum() > 100 for case in drawn if case.is_patient]
    assert np.mean(grown) == pytest.approx(0.3, abs=0.15)


def test_patients_are_mixed_with_anyone_and_controls_with_controls(people):
    config = Config(
        data="", steps=1, mixed=0.5, transplants_onto_patients=0, transplants_onto_controls=0
    )
    drawn = _drawn(people, config)
    original = {case.uptake.tobytes() for group in people for case in group}
    # One in six or twelve is mixed with itself.
    assert np.mean([c.uptake.tobytes() not in original for c in drawn]) == pytest.approx(
        0.44, abs=0.1
    )
    assert not any(case.truth.any() for case in drawn if not case.is_patient)
    lost = [not case.truth.any() for case in drawn if case.is_patient]
    assert 0.05 < np.mean(lost) < 0.25  # the half with the lesion came from a control


def test_no_one_is_drawn_twice_while_there_are_enough(people):
    config = Config(data="", steps=1, patients_per_batch=6, controls_per_batch=6, mixed=0)
    assert len({case.name for case in _drawn(people, config, 1)}) == 12


def test_without_controls_patients_take_their_place(people):
    drawn = Batches(people[0], [], [], CONFIG, 0).cases(np.random.default_rng(0))
    assert len(drawn) == 24
    assert all(case.is_patient for case in drawn)


def test_steps_and_seeds_differ_but_each_is_the_same_again(people):
    first = Batches(*people, [Donor(case) for case in people[0]], CONFIG, first_step=0)
    again = Batches(*people, [Donor(case) for case in people[0]], CONFIG, first_step=2)
    other = Batches(
        *people, [Donor(case) for case in people[0]], Config(data="", steps=1, seed=1), first_step=0
    )
    assert torch.equal(first[3][0], again[1][0])  # the same step in another epoch
    assert first[3][2] == again[1][2]
    assert first[3][2] not in (first[2][2], other[3][2])
    assert not torch.equal(first[3][0], other[3][0])


def test_processes_that_draw_ahead_change_nothing(people):
    batches = Batches(*people, [Donor(case) for case in people[0]], CONFIG, first_step=2)
    alone = list(batches.ahead_of(torch.device("cpu")))
    ahead = list(DataLoader(batches, batch_size=None, num_workers=1))
    assert len(alone) == len(ahead) == CONFIG.steps_per_epoch
    for one, other in zip(alone, ahead, strict=True):
        assert torch.equal(one[0], other[0])
        assert one[2] == other[2]
