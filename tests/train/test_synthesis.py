"""Lesions on other bodies, and people mixed from two."""

import numpy as np
import pytest

from train.dataset import Case
from train.synthesis import CUT, HALO, Donor, mix, transplant
from tumour_segmenter.phantom import phantom


def _person(lesions: int, seed: int) -> Case:
    pixels, truth = phantom(426, 400, lesions, seed)
    return Case(f"patient_{seed:03}", 255 - pixels, truth > 0)


@pytest.fixture(scope="module")
def donor() -> Donor:
    return Donor(_person(3, seed=1))


def _square(value: int, lesion: int) -> Case:
    """A body of one uptake, 100 wide, with a square lesion of another."""
    uptake, truth = np.zeros((300, 200), np.uint8), np.zeros((300, 200), bool)
    uptake[10:290, 50:150] = value
    uptake[100:120, 70:90], truth[100:120, 70:90] = lesion, True
    return Case("patient_001", uptake, truth)


def test_a_donor_keeps_lesions_with_a_halo_of_their_own_uptake(donor):
    assert 1 <= len(donor.lesions) <= 3
    for lesion in donor.lesions:
        assert lesion.truth.any()
        assert (lesion.uptake > 0).sum() > (lesion.truth > 0).sum()
    (lesion,) = Donor(_square(60, 250)).lesions
    assert lesion.uptake.shape == (20 + 2 * HALO,) * 2
    assert lesion.uptake[HALO, HALO] == 250
    assert lesion.row == pytest.approx(110 / 100)  # torso widths from the top
    assert lesion.column == pytest.approx((80 - 99.5) / 100)  # from the midline


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


def test_side_size_uptake_and_place_vary_around_the_donor_s():
    control = _square(60, 60)
    control = Case("control_000", control.uptake, np.zeros_like(control.truth))
    donor, areas, columns, hottest = Donor(_square(60, 250)), [], [], []
    for seed in range(200):
        case = transplant(control, donor, np.random.default_rng(seed))
        if case.truth.any():
            areas.append(case.truth.sum())
            columns.append(np.flatnonzero(case.truth.any(axis=0)).mean())
            hottest.append(case.uptake[case.truth].max())
    assert len(areas) > 180
    assert min(areas) < 0.7 * 400 < 1.4 * 400 < max(areas)
    assert 60 < np.mean(np.array(columns) < 100) * len(columns) < 140  # either side
    assert min(hottest) < 170
    assert max(hottest) == 255


def test_some_lesions_are_put_anywhere_in_the_body():
    control = _square(60, 60)
    control = Case("control_000", control.uptake, np.zeros_like(control.truth))
    donor = Donor(_square(60, 250))
    drawn = (transplant(control, donor, np.random.default_rng(seed)) for seed in range(200))
    rows = [np.flatnonzero(c.truth.any(axis=1)).mean() for c in drawn if c.truth.any()]
    away = np.abs(np.array(rows) - 110) > 60  # four standard deviations of the usual place
    assert 0.05 < away.mean() < 0.2


def test_all_lesions_of_a_donor_are_moved_as_often_as_a_few():
    uptake, truth = np.full((400, 200), 60, np.uint8), np.zeros((400, 200), bool)
    for i in range(60):
        row, column = 10 + i // 6 * 38, 10 + i % 6 * 30
        truth[row : row + 6, column : column + 6] = True
    donor = Donor(Case("patient_000", np.where(truth, 250, uptake).astype(np.uint8), truth))
    counts = [len(donor.choose(np.random.default_rng(seed))) for seed in range(200)]
    assert set(counts) == {1, 2, 3, 4, 5, 40}
    assert 70 < counts.count(40) < 130


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


def _even(name: str, value: int, height: int, width: int = 30) -> Case:
    truth = np.full((height, width), name.startswith("patient"))
    return Case(name, np.full((height, width), value, np.uint8), truth)


def test_one_body_ends_where_the_other_begins():
    patient, control = _even("patient_000", 200, 100), _even("control_000", 50, 140)
    uppers, cuts = set(), []
    for seed in range(60):
        mixed = mix(patient, control, np.random.default_rng(seed))
        rows = mixed.uptake[:, 0]
        (cut,) = np.flatnonzero(np.diff(rows.astype(int))) + 1
        cuts.append(cut)
        assert (mixed.truth == (mixed.uptake == 200)).all()
        assert len(rows) == (140 if rows[-1] == 50 else 100)
        uppers.add(int(rows[0]))
    assert uppers == {50, 200}
    assert CUT[0] * 100 - 1 <= min(cuts) < 25
    assert 75 < max(cuts) <= CUT[1] * 100
    assert (patient.uptake == 200).all()
    assert (control.uptake == 50).all()


def test_widths_that_differ_are_left_alone():
    patient, narrow = _even("patient_000", 200, 100), _even("control_000", 50, 100, width=20)
    assert mix(patient, narrow, np.random.default_rng(0)) is patient
