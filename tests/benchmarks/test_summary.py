"""The figures that the scorer reports, on masks whose figures can be counted by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.running.statistics import interval
from benchmarks.scoring.cases import Case
from benchmarks.scoring.losses import losses
from benchmarks.scoring.score import Result
from benchmarks.scoring.summary import between, froc, scaled_score, summary, to_csv
from tumour_segmenter import contract
from tumour_segmenter.lesions import compare, hausdorff


def boxes(*places: tuple[int, int, int, int]) -> np.ndarray:
    """uint8 60×60, 255 in boxes of (top, left, height, width) each."""
    pixels = np.zeros((60, 60), np.uint8)
    for top, left, height, width in places:
        pixels[top : top + height, left : left + width] = 255
    return pixels


def result(name: str, truth: np.ndarray, mask: np.ndarray, fault: str = "") -> Result:
    return Result(
        Case(name, Path(name), Path(name) if name.startswith("patient") else None),
        contract.dice(truth, mask),
        compare(truth, mask),
        hausdorff(truth, mask),
        losses(truth, mask),
        int(np.count_nonzero(truth)),
        int(np.count_nonzero(mask)),
        0.1,
        fault,
        mask,
        f"hash of {name}",
    )


SMALL, MIDDLE, LARGE = (0, 0, 7, 7), (0, 10, 10, 5), (15, 0, 40, 25)  # 49, 50, 1000 pixels
RESULTS = [
    result("patient_0", boxes(SMALL, MIDDLE, LARGE), boxes(MIDDLE, LARGE, (55, 55, 2, 2))),
    result("patient_1", boxes(SMALL), boxes()),
    result("patient_2", boxes(MIDDLE), boxes((0, 14, 10, 5))),
    result("control_0", boxes(), boxes((0, 0, 2, 2), (9, 9, 2, 2), (30, 30, 2, 2))),
    result("control_1", boxes(), boxes()),
    result("control_2", boxes(), boxes(), fault="late: no answer"),
]


def lines(**options: object) -> list[str]:
    return summary(RESULTS, **options).splitlines()


def test_every_figure_is_what_a_person_counts() -> None:
    printed = lines(best=0.8)
    dice = [2 * 1050 / (1099 + 1054), 0, 2 * 10 / 100]
    mean = np.mean(dice)
    for start in (
        f"mean Dice     {mean:.4f}  over 3 patients, 95 % from ",
        f"median Dice   {0.2:.4f}",
        "failures      33.3%  (1 with Dice < 0.1)",
        f"scaled score  {(mean - 0.2) / 0.6:.4f}  ",
        "sensitivity   60.0%  3 of 5 lesions found",
        "  1 to 49 px       0.0%  0 of 2",
        "  50 to 199 px   100.0%  2 of 2",
        "  from 1000 px   100.0%  1 of 1",
        "false lesions 0.33  false-positive lesions per patient",
        "empty masks   33.3%  of 3 controls",  # no answer is no empty mask
        "false lesions 1.00  false-positive lesions per control",
        "time, ms      median 100, p99 100, max 100",
        "faults        1",
        "  control_2: late: no answer",
    ):
        assert any(line.startswith(start) for line in printed), start
    assert not any("200 to 999" in line for line in printed)
    (distance,) = (line for line in printed if line.startswith("Hausdorff 95"))
    assert "median" in distance
    assert distance.endswith("; 1 patient without a mask left out")


def test_the_worst_come_first_and_the_rest_are_counted() -> None:
    printed = lines(worst=2)
    assert [line.split()[0] for line in printed[1:3]] == ["patient_1", "patient_2"]
    assert printed[3] == "... and 1 better ones"


def test_hashes_of_the_trained_on_count_in_each_group() -> None:
    printed = lines(trained_on=frozenset({"hash of patient_0", "hash of control_1", "x"}))
    assert (
        sum("1 of 3 was in its training data: not a figure for unseen" in s for s in printed) == 2
    )
    assert not any("training data" in line for line in lines(trained_on=frozenset({"x"})))


def test_only_controls_or_only_patients_are_reported_alone() -> None:
    controls = summary([r for r in RESULTS if r.case.group == "control"])
    assert "mean Dice" not in controls
    assert "of 3 controls" in controls
    assert "controls" not in summary([r for r in RESULTS if r.case.group == "patient"])


def test_the_table_holds_each_case() -> None:
    rows = list(csv.DictReader(to_csv(RESULTS).splitlines()))
    first, second = rows[:2]
    assert [row["case"] for row in rows] == [r.case.name for r in RESULTS]
    assert (first["lesions"], first["lesions_found"], first["false_lesions"]) == ("3", "2", "1")
    assert (first["truth_pixels"], first["mask_pixels"]) == ("1099", "1054")
    assert second["hausdorff_95"] == ""
    parts = [float(first[f"lost_to_{part}"]) for part in ("missed", "false", "boundary")]
    assert sum(parts) == pytest.approx(1 - float(first["dice"]), abs=1e-5)


def test_a_point_of_the_curve() -> None:
    line = froc({"balanced": RESULTS}, None).splitlines()[-1].split()
    mean = np.mean([r.dice for r in RESULTS[:3]])
    assert line == ["balanced", f"{mean:.4f}", "60.0%", "0.33", "1.00", "33.3%", "1", "fault"]


def test_the_scaled_score_is_the_one_of_the_challenge_s_text() -> None:
    assert scaled_score(0.2, 0.8) == scaled_score(0.1, 0.8) == 0
    assert scaled_score(0.5, 0.8) == pytest.approx(0.5)
    assert scaled_score(0.8, 0.8) == scaled_score(0.9, 0.8) == 1


def test_intervals_are_of_the_mean_or_the_share() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 / 20, rel=0.15)  # of ± two standard errors
    found, total = np.tile([0, 5], 200), np.tile([5, 5], 200)
    low, high = interval(found, total)
    assert low < 0.5 < high
    assert high - low == pytest.approx(4 * 0.5 / 20, rel=0.15)
    assert interval(values) == interval(values)
    assert np.isnan(interval(np.array([1.0]), np.array([0.0]))).all()
    assert between(np.array([1.0])) == ""


def test_one_of_a_kind_is_no_plural() -> None:
    printed = summary([RESULTS[1], RESULTS[3]])
    for part in ("over 1 patient\n", "0 of 1 lesion ", "1 patient without", "of 1 control:"):
        assert part in printed
