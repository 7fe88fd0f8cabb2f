import numpy as np
import pytest

from serve.phantom import phantom
from train.dataset import Case
from train.transplant import Donor, transplant


def _person(lesions: int, seed: int) -> Case:
    pixels, truth = phantom(426, 400, lesions, seed)
    return Case(f"patient_{seed:03}", 255 - pixels, truth > 0)


@pytest.fixture
def donor() -> Donor:
    return Donor(_person(3, seed=1))


def test_a_donor_keeps_lesions_with_a_halo_of_their_own_uptake(donor):
    assert 1 <= len(donor.lesions) <= 3
    for lesion in donor.lesions:
        assert lesion.truth.any()
        assert (lesion.uptake > 0).sum() > (lesion.truth > 0).sum()


def test_transplants_add_hot_tumour_and_never_take_uptake_away(donor):
    control = _person(0, seed=2)
    before = control.uptake.copy()
    added = [transplant(control, donor, np.random.default_rng(i)) for i in range(30)]
    assert (control.uptake == before).all(), "the canvas itself must be left as it is"
    assert not control.truth.any()
    assert sum(case.truth.any() for case in added) > 15
    for case in added:
        assert case.uptake.dtype == np.uint8
        assert (case.uptake >= before).all()
        assert (case.uptake[case.truth] >= before[case.truth]).all()
        changed = case.uptake != before
        assert not changed.any() or case.truth.any()


def test_a_patient_keeps_the_own_lesions(donor):
    patient = _person(2, seed=3)
    case = transplant(patient, donor, np.random.default_rng(0))
    assert case.truth[patient.truth].all()


def test_lesions_do_not_go_where_the_body_is_as_hot(donor):
    hot = Case("control_000", np.full((426, 400), 255, np.uint8), np.zeros((426, 400), bool))
    for seed in range(10):
        assert not transplant(hot, donor, np.random.default_rng(seed)).truth.any()


def test_an_empty_image_is_no_error(donor):
    blank = Case("control_000", np.zeros((3, 5), np.uint8), np.zeros((3, 5), bool))
    assert transplant(blank, donor, np.random.default_rng(0)).uptake.shape == (3, 5)


def test_the_same_seed_gives_the_same_image(donor):
    control = _person(0, seed=2)
    first, second = (transplant(control, donor, np.random.default_rng(7)) for _ in range(2))
    assert (first.uptake == second.uptake).all()
    assert (first.truth == second.truth).all()
