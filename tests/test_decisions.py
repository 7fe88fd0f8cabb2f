"""Rules of what is a lesion are compared on those whom a run held out."""

import numpy as np
import pytest
import torch

from export import decisions
from export.decisions import CALIBRATION, TEMPERATURE, THRESHOLD
from tests.folders import draw_data
from train import fit
from train.calibration import Calibration, Histograms
from train.dataset import Case

TRUTH = np.zeros((20, 20), bool)
TRUTH[2:6, 2:6] = True
WHOLE, HOT, ENOUGH, SURE, LARGE = (keep for _, _, keep in [*decisions.RULES.values()][:5])


def person(name: str = "patient_0") -> decisions.Person:
    """The true lesion at 0.9, a single false pixel at 0.5 and a false lesion of 9 at 0.3."""
    probability = np.where(TRUTH, 0.9, 1e-6).astype(np.float32)
    probability[10, 10] = 0.49
    probability[15:18, 15:18] = 0.3
    truth = TRUTH if name.startswith("patient") else np.zeros_like(TRUTH)
    logits = np.log(probability / (1 - probability))
    case = Case(name, np.zeros((20, 20), np.uint8), truth)
    return decisions.find(logits, case, Calibration(0.5))


@pytest.mark.parametrize(
    ("keep", "least", "false_pixels"),
    [
        (WHOLE, 0, 10),
        (HOT, 0.8, 10),
        (ENOUGH, 1e-7, 10),
        (SURE, 0.4, 1),
        (SURE, 0.6, 0),
        (LARGE, 5, 9),
    ],
)
def test_a_rule_leaves_out_the_lesions_that_it_names(keep, least, false_pixels):
    at = dict(zip(THRESHOLD.settings, person().dice(THRESHOLD, keep, least), strict=True))
    assert at[0.2] == pytest.approx(32 / (32 + false_pixels))
    assert at[0.5] == 1


def test_a_control_counts_where_nothing_is_left():
    control = person("control_0")
    assert control.dice(THRESHOLD, HOT, 0.95) == [1] * len(THRESHOLD.settings)
    for rule in (TEMPERATURE, CALIBRATION):
        assert control.dice(rule, HOT, 0.95) == [1] * len(rule.settings)
        # Only 26 pixels have more than a millionth.
        assert control.dice(rule, ENOUGH, 1e-5) == [1] * len(rule.settings)
        assert control.dice(rule, WHOLE, 0) == [0] * len(rule.settings)


def test_a_patients_lesions_are_found_by_the_calibration_of_the_others():
    rng = np.random.default_rng(0)
    seen = []
    for i, slope in enumerate((0.5, 0.5, 3.0)):
        logits = rng.normal(-3, 3, (40, 40)).astype(np.float32)
        truth = rng.random((40, 40)) < 1 / (1 + np.exp(-slope * logits))
        seen.append((Case(f"patient_{i}", np.zeros((40, 40), np.uint8), truth), logits))
    found = decisions.find_all(seen)[2]
    others = Histograms.of([(logits, case.truth) for case, logits in seen[:2]]).calibrate()
    assert found.lesions["calibration"][0].area.sum() == (
        decisions.decision.mask(torch.from_numpy(seen[2][1]), others).sum()
    )


def test_a_patient_has_no_say_in_its_own_setting():
    dice = np.array([[0.9, 0.0], [0.4, 0.5], [0.4, 0.5]])
    of = decisions.Outcome([(0.1, 0), (0.2, 0)], dice, np.zeros((0, 2)))
    assert of.best == 0
    assert of.nested.tolist() == [0.0, 0.4, 0.4]


def test_quiet_is_the_best_setting_at_which_enough_controls_are_empty():
    empty = np.array([[False, True, True]] * 4 + [[False, False, True]])
    of = decisions.Outcome([(0.1, 0)] * 3, np.array([[0.9, 0.7, 0.5]] * 2), empty)
    assert of.quiet == 1
    none = decisions.Outcome([(0.1, 0)], np.ones((2, 1)), np.zeros((5, 1), bool))
    assert none.quiet is None


def test_the_report_has_a_row_for_each_rule(tmp_path, capsys):
    data, run = draw_data(tmp_path / "data", patients=10, controls=5), tmp_path / "run"
    (tmp_path / "small.toml").write_text(
        "scales = [[1.0, 0.25]]\nepochs = 1\nsteps_per_epoch = 2\n"
    )
    fit.main(f"--data {data} --config {tmp_path}/small.toml --out {run}".split())
    out = tmp_path / "DECISIONS.md"
    command = ["--data", str(data), "--out", str(out), "--run"]
    assert decisions.main([*command, str(run)]) == 0
    report = out.read_text()
    assert "2 patients, 1 controls" in report
    assert sum(line.startswith("| ") for line in report.splitlines()) == 1 + len(decisions.RULES)
    assert (tmp_path / "decisions.png").stat().st_size > 1000
    assert decisions.main([*command, str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err
