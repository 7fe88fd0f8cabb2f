"""All folds and seeds are trained, each once; what is done is not done again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.support.folders import draw_data, options_in
from train import checkpoint, crossval, fit, weights
from train.canonical import Upright
from train.network import UNet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crossval")
    draw_data(folder / "data", patients=10, controls=5)
    assert _run(folder, "--folds", "0", "--seeds", "2", "--jobs", "2") == 0
    return folder


def _run(folder: Path, *more: str, budget: tuple[str, ...] = ("--steps", "1"), **other: str) -> int:
    paths = options_in(folder, **{"data": "data", "out": "runs"} | other)
    return crossval.main([*paths, "--config", "fine-tune", *budget, *more])


def test_each_fold_is_trained_with_each_seed(folder):
    found = {path.parent.name: path for path in (folder / "runs").glob("*/weights.safetensors")}
    together = {path.name: path.read_bytes() for path in (folder / "runs/weights").iterdir()}
    assert together == {
        "fold-0.safetensors": found["fold-0-seed-0"].read_bytes(),
        "fold-0-seed-1.safetensors": found["fold-0-seed-1"].read_bytes(),
    }
    assert set(found) == {"fold-0-seed-0", "fold-0-seed-1"}
    for name, path in found.items():
        facts = weights.load(path).facts
        assert name == f"fold-{facts['fold']}-seed-{facts['seed']}"
        assert "budget: 1 steps of" in (path.parent / "fit.log").read_text()


def test_what_is_done_is_kept_and_what_is_missing_is_trained(folder, capsys):
    path = folder / "runs/fold-0-seed-0/weights.safetensors"
    before = path.stat().st_mtime_ns
    (folder / "runs/fold-0-seed-1/weights.safetensors").unlink()
    assert _run(folder, "--folds", "0", "--seeds", "2") == 0
    assert path.stat().st_mtime_ns == before
    assert (folder / "runs/fold-0-seed-1/weights.safetensors").exists()
    line = capsys.readouterr().out.splitlines()[-1]
    program = f"{sys.executable} -m train.out_of_fold"
    assert line.startswith(f"next: {program} --weights {folder / 'runs/weights'}")


def test_what_was_interrupted_is_resumed(folder):
    out = folder / "runs/fold-1-seed-0"
    out.mkdir()
    (out / "last.pt").write_bytes(b"")
    arguments = crossval._parser().parse_args(["--data", "d", "--out", "o", "--steps", "1"])
    config = crossval.Config(data="d", steps=1, fold=1, seed=2)
    assert crossval.command(out, config, arguments)[-1] == "--resume"
    (out / "last.pt").unlink()
    words = crossval.command(out, config, arguments)
    assert words[-6:] == ["--steps", "1", "--fold", "1", "--seed", "2"]
    out.rmdir()


def test_runs_of_other_settings_are_not_taken_for_done(folder, capsys):
    assert _run(folder, "--folds", "0", budget=("--steps", "2")) == 2
    assert "steps is 1, not 2; choose another --out" in capsys.readouterr().err
    assert _run(folder, "--folds", "0", "--config", "default") == 2
    assert "choose another --out" in capsys.readouterr().err


def test_runs_of_other_data_or_another_start_are_not_taken_for_done(folder, capsys):
    draw_data(folder / "others", patients=11, controls=5)
    assert _run(folder, "--folds", "0", data="others") == 2
    error = capsys.readouterr().err
    assert "fold-0-seed-0 is of another run: data_fingerprint is " in error
    start = folder / "runs/fold-0-seed-0/weights.safetensors"
    (folder / "again").mkdir()
    (folder / "again/fold-0-seed-0").symlink_to(folder / "runs/fold-0-seed-0")
    options = {"out": "again", "start-from": str(start.relative_to(folder))}
    assert _run(folder, "--folds", "0", **options) == 2
    assert "started_from is ImageNet, sha256 " in capsys.readouterr().err


def test_a_folder_in_which_another_process_trains_is_refused(folder, capsys):
    with checkpoint.alone_in(folder / "busy"):
        assert _run(folder, "--folds", "0", out="busy") == 2
        assert "another process trains here" in capsys.readouterr().err
        single = ["--data", str(folder / "data"), "--out", str(folder / "busy"), "--steps", "1"]
        assert fit.main([*single, "--config", "fine-tune"]) == 2
        assert "another process trains here" in capsys.readouterr().err
    assert list((folder / "busy").iterdir()) == []


def test_whoever_ends_a_cross_validation_ends_its_runs(folder):
    words = options_in(folder, data="data", out="ended")
    budget = ["--folds", "0", "--config", "fine-tune", "--minutes", "5"]
    command = [sys.executable, "-m", "train.crossval", *words, *budget]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        log, end = folder / "ended/fold-0-seed-0/fit.log", time.monotonic() + 60
        while not (log.exists() and "budget:" in log.read_text()) and time.monotonic() < end:
            time.sleep(0.2)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    with checkpoint.alone_in(folder / "ended/fold-0-seed-0"):  # nobody is there
        assert log.exists()


def test_a_run_that_fails_is_named_with_its_reason_and_log(folder, capsys):
    draw_data(folder / "few", patients=2, controls=0)
    capsys.readouterr()
    assert _run(folder, "--folds", "1", data="few", out="broken") == 1
    error = capsys.readouterr().err
    assert "fold-1-seed-0 failed: error: fold 1 has " in error
    assert f"1 of 1 failed; see {folder / 'broken/fold-1-seed-0/fit.log'}" in error


def test_each_fold_is_fine_tuned_from_its_own_weights(folder, capsys, monkeypatch):
    runs = {}
    monkeypatch.setattr(
        crossval, "train", lambda wanted, arguments: runs.update(wanted) or [folder]
    )
    for fold in (0, 1):
        path = folder / f"start/fold-{fold}.safetensors"
        weights.save(path, UNet(), {"trained_on": "[]"}, Upright(torch.ones(64).tolist()))
    assert _run(folder, "--folds", "0", "1", out="tuned", **{"start-from": "start"}) == 1
    arguments = crossval._parser().parse_args(["--data", "d", "--out", "o", "--steps", "1"])
    assert len(runs) == 2
    for path, config in runs.items():
        start = str(folder / f"start/fold-{config.fold}.safetensors")
        words = crossval.command(path, config, arguments)
        assert words[words.index("--start-from") + 1] == config.start_from == start
    one = "start/fold-0.safetensors"
    assert _run(folder, "--folds", "3", "4", out="tuned", **{"start-from": one}) == 1
    assert {str(folder / one)} == {runs[path].start_from for path in list(runs)[2:]}
    assert _run(folder, "--folds", "2", out="none", **{"start-from": "start"}) == 2
    assert "fold-2.safetensors: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["seeds", "jobs"])
def test_there_is_at_least_one_run_at_a_time(folder, name, capsys):
    assert _run(folder, f"--{name}", "0") == 2
    assert f"--{name} must be 1 or more" in capsys.readouterr().err


def test_a_missing_budget_is_refused(folder, capsys):
    assert _run(folder, "--config", "default", budget=()) == 2
    assert "give one budget above zero" in capsys.readouterr().err
