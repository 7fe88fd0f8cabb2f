"""Two people put together of an upper and a lower body."""

import numpy as np

from train.dataset import Case
from train.join import ROWS, join


def _even(name: str, value: int, height: int, width: int = 30) -> Case:
    return Case(
        name,
        np.full((height, width), value, np.uint8),
        np.full((height, width), name.startswith("patient")),
    )


def test_one_body_ends_where_the_other_begins():
    patient, control = _even("patient_000", 200, 100), _even("control_000", 50, 140)
    uppers = set()
    for seed in range(30):
        joined = join(patient, control, np.random.default_rng(seed))
        rows = joined.uptake[:, 0]
        (cut,) = np.flatnonzero(np.diff(rows.astype(int))) + 1
        assert ROWS[0] * 100 - 1 <= cut <= ROWS[1] * 100
        assert (joined.truth == (joined.uptake == 200)).all()
        assert len(rows) == (140 if rows[-1] == 50 else 100)
        uppers.add(int(rows[0]))
    assert uppers == {50, 200}
    assert (patient.uptake == 200).all()
    assert (control.uptake == 50).all()


def test_widths_that_differ_are_left_alone():
    patient, narrow = _even("patient_000", 200, 100), _even("control_000", 50, 100, width=20)
    assert join(patient, narrow, np.random.default_rng(0)) is patient
