"""Folds are trained, put together and reported; what is done is not done again."""

import json
import shutil

import numpy as np
import pytest

from tests.folders import draw_data, options_in
from train import comparison, crossval, oof
from train.decision import THRESHOLDS

RECIPE = """about = "As small as it gets."
epochs = 1
steps_per_epoch = 2
scales = [[1.0, 0.25]]
patients_per_batch = 1
controls_per_batch = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossval")
    draw_data(folder / "data", patients=10, controls=5)
    (folder / "tiny.toml").write_text(RECIPE)
    assert _run(folder, "--folds", "0", "3", "--jobs", "2") == 0
    return folder


def _run(folder, *more: str, **other: str) -> int:
    options = {"config": "tiny.toml", "data": "data", "out": "runs", "artifacts": "artifacts"}
    return crossval.main([*options_in(folder, **options | other), *more])


def _result(folder) -> dict:
    return json.loads((folder / "artifacts/experiments/tiny.json").read_text())


def test_everyone_of_the_folds_is_measured_once_by_who_never_saw_them(folder):
    result = _result(folder)
    folds = json.loads((folder / "runs/fold-0/folds.json").read_text())["folds"]
    assert {row["name"]: row["fold"] for row in result["people"]} == {
        name: fold for name, fold in folds.items() if fold in (0, 3)
    }
    assert set(result["runs"]) == {"0", "3"}
    for row in oof.patients_of(result["people"]):
        assert set(oof.VARIANTS) <= set(row)


def test_the_decision_for_the_export_says_how_it_was_measured(folder):
    decided = json.loads((folder / "runs/decision.json").read_text())
    assert "4 held-out patients of fold 0, 3" in decided["measured"]
    assert decided["calibration"]["slope"] > 0


def test_the_report_tells_of_the_experiment(folder):
    text = (folder / "artifacts/EXPERIMENTS.md").read_text()
    assert "| [tiny](../train/experiments/tiny.toml) | calibration | 0, 3 | 4 |" in text
    assert "As small as it gets." in text
    for fold in (0, 3):
        assert f"| fold | {fold} | 2 |" in text
    for plot in ("dice", "tiny"):
        assert (folder / f"artifacts/experiments/{plot}.png").stat().st_size > 1000


def test_what_is_done_is_not_trained_again_and_the_report_stays_the_same(folder):
    before = {p: p.read_bytes() for p in (folder / "artifacts").rglob("*.[jm]*")}
    checkpoint = (folder / "runs/fold-0/last.pt").stat().st_mtime_ns
    assert _run(folder, "--folds", "0", "3") == 0
    assert (folder / "runs/fold-0/last.pt").stat().st_mtime_ns == checkpoint
    assert {path: path.read_bytes() for path in before} == before


def test_folds_measured_on_another_machine_stay_and_count(folder):
    shutil.copytree(folder / "artifacts", folder / "cloned")
    there = {"out": "runs-there", "artifacts": "cloned"}
    assert _run(folder, "--folds", "1", **there) == 0
    result = json.loads((folder / "cloned/experiments/tiny.json").read_text())
    assert list(result["runs"]) == ["0", "1", "3"]
    assert [row for row in result["people"] if row["fold"] != 1] == _result(folder)["people"]
    assert len({row["name"] for row in result["people"] if row["fold"] == 1}) == 3
    decided = json.loads((folder / "runs-there/decision.json").read_text())
    assert "6 held-out patients of fold 0, 1, 3" in decided["measured"]


def test_folds_kept_of_other_settings_are_neither_mixed_nor_thrown_away(folder, capsys):
    (folder / "other").mkdir()
    (folder / "other/tiny.toml").write_text(RECIPE.replace("epoch = 2", "epoch = 1\nseed = 5"))
    before = (folder / "artifacts/experiments/tiny.json").read_bytes()
    changed = {"config": "other/tiny.toml", "out": "runs-other"}
    assert _run(folder, "--folds", "0", **changed) == 2
    assert "fold 3 of another experiment (steps_per_epoch, seed" in capsys.readouterr().err
    assert (folder / "artifacts/experiments/tiny.json").read_bytes() == before


def test_a_run_is_reported_with_its_steps(folder):
    assert _result(folder)["runs"]["0"]["steps"] == 2
    text = (folder / "artifacts/EXPERIMENTS.md").read_text()
    assert "Steps: fold 0: 2 in 0 minutes (float32), fold 3: 2 in 0 minutes (float32)." in text


def test_people_measured_by_an_older_version_are_to_be_measured_again(folder, capsys):
    held_out = folder / "runs/fold-0/held_out.json"
    rows = held_out.read_text()
    old = [{k: v for k, v in row.items() if k != "seen"} for row in json.loads(rows)]
    held_out.write_text(json.dumps(old))
    assert _run(folder, "--folds", "0", "3") == 2
    assert f"train.fit --resume --out {folder / 'runs/fold-0'}" in capsys.readouterr().err
    held_out.write_text(rows)


def test_a_run_that_fails_is_named_with_its_log(folder, capsys):
    broken = folder / "broken"
    draw_data(broken / "data", patients=2, controls=0)
    (broken / "tiny.toml").write_text(RECIPE)
    assert _run(broken, "--folds", "1") == 1
    assert "fold 1 failed" in capsys.readouterr().err
    assert "--fold none" in (broken / "runs/fold-1/fit.log").read_text()
    assert not (broken / "artifacts").exists()


def test_a_recipe_without_a_budget_is_refused(tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text('about = "x"\n')
    assert _run(tmp_path) == 2
    assert "needs a budget" in capsys.readouterr().err


def test_a_machine_s_minutes_and_precision_replace_the_recipe_s(folder):
    there = {"out": "runs-slow", "artifacts": "slow"}
    options = ["--folds", "0", "--minutes", "0.01", "--precision", "bfloat16"]
    assert _run(folder, *options, **there) == 0
    settings = json.loads((folder / "runs-slow/fold-0/config.json").read_text())
    assert (settings["minutes"], settings["epochs"]) == (0.01, None)
    told = json.loads((folder / "slow/experiments/tiny.json").read_text())
    assert told["runs"]["0"]["precision"] == "bfloat16"
    assert told["settings"] == _result(folder)["settings"]


def test_minutes_are_above_nothing(folder, capsys):
    with pytest.raises(SystemExit):
        _run(folder, "--minutes", "0")
    assert "--minutes must be above 0" in capsys.readouterr().err


def test_robustness_is_what_the_mean_loses_at_the_decision():
    steps = len(THRESHOLDS)
    people = []
    for i, dice in enumerate((0.9, 0.7)):
        row = {"name": f"patient_{i}", "height": 1, "area": 9, "lesions": 1, "reached": 0.9}
        row["dice"] = [dice] * steps
        people.append(row | {name: [dice] * steps for name in oof.VARIANTS})
        people[-1]["upside_down"] = [dice - 0.2] * steps
    people.append({"name": "control_0", "height": 1, "area": 0, "reached": 0.5})
    people.append({"name": "control_1", "height": 1, "area": 0, "reached": 0.95})
    runs = {"0": {"minutes": 3.0}}
    found = comparison.summary({"name": "n", "about": "", "runs": runs, "people": people})
    assert found.robust["upside_down"] == pytest.approx(0.2)
    assert found.robust["left_right"] == 0
    assert found.empty == 0.5
    assert found.nested.mean() == pytest.approx(0.8)
    assert found.standard_error == pytest.approx(np.std([0.9, 0.7], ddof=1) / np.sqrt(2))


def _held_out(name: str, dice: dict[str, float]) -> comparison.Summary:
    steps = len(THRESHOLDS)
    people = [
        {
            "name": patient,
            "height": 1,
            "area": 9,
            "lesions": 1,
            "reached": 0.9,
            "dice": [value] * steps,
        }
        | {variant: [value] * steps for variant in oof.VARIANTS}
        for patient, value in dice.items()
    ]
    runs = {"0": {"minutes": 3.0}}
    return comparison.summary({"name": name, "about": "", "runs": runs, "people": people})


def test_a_gain_is_of_the_patients_whom_both_held_out():
    baseline = _held_out("scratch", {"a": 0.5, "b": 0.7, "c": 0.1})
    ours = _held_out("ours", {"b": 0.8, "a": 0.8, "d": 0.9})
    mean, error = comparison.gain(ours, baseline)
    assert mean == pytest.approx(0.2)
    assert error == pytest.approx(0.1)
    assert comparison.gain(_held_out("other", {"a": 0.9, "d": 0.1}), baseline) is None
