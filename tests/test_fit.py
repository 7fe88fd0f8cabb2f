"""Short runs on drawn patients: what a run leaves behind, and that nothing is lost on the way."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from export.run import load_run
from tests.folders import draw_data, save_rgba
from train import config, fit, oof, run

SMALL = """
steps_per_epoch = 2
scales = [[0.5, 0.25], [1.0, 0.5]]
patients_per_batch = 2
controls_per_batch = 1
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_data(tmp_path_factory.mktemp("data"), patients=10, controls=5)


def _config(folder, text: str = SMALL) -> str:
    (folder / "small.toml").write_text(text)
    return str(folder / "small.toml")


def _start(data, out, *more: str) -> int:
    config = _config(out.parent)
    return fit.main(["--data", str(data), "--out", str(out), "--config", config, *more])


def _weights(out) -> dict[str, torch.Tensor]:
    return torch.load(out / "last.pt", weights_only=True)["average"]


def _rows(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_log_figures_folds_and_held_out_figures(data, tmp_path, capsys):
    assert _start(data, tmp_path / "run", "--epochs", "2", "--fold", "1") == 0
    out = tmp_path / "run"
    assert [row["epoch"] for row in _rows(out / "log.csv")] == ["1", "2"]
    for picture in ("curves.png", "preview.png"):
        with Image.open(out / picture) as image:
            assert image.width > 200
    folds = json.loads((out / "folds.json").read_text())["folds"]
    held_out = json.loads((out / "held_out.json").read_text())
    assert {row["name"] for row in held_out} == {name for name, fold in folds.items() if fold == 1}
    assert len(oof.patients_of(held_out)) == 2
    decided = json.loads((out / "decision.json").read_text())
    assert decided["calibration"]["slope"] > 0
    assert decided["measured"].endswith("of 2 held-out patients")
    assert decided["measured"] in capsys.readouterr().out
    assert not list(out.glob("*partial*"))


def test_a_run_looks_whether_labels_were_drawn_slice_by_slice(tmp_path):
    data = draw_data(tmp_path / "data", patients=3, controls=1, size=(126, 120))
    everyone = ("--epochs", "1", "--fold", "none")

    def by_slices(name: str, text: str = SMALL) -> bool:
        arguments = ["--config", _config(tmp_path, text), "--out", str(tmp_path / name)]
        assert fit.main(["--data", str(data), *arguments, *everyone]) == 0
        return load_run(tmp_path / name)[0].by_slices

    assert not by_slices("looked")
    assert by_slices("told", SMALL + "by_slices = true\n")
    for path in data.glob("patients/labels/*.png"):
        with Image.open(path) as image:
            label = np.array(image)[:, :, 0]
        save_rgba(path, label[np.arange(126) // 3 * 3])
    assert by_slices("looked-again")


def test_resuming_gives_what_an_unbroken_run_gives(data, tmp_path, monkeypatch):
    assert _start(data, tmp_path / "whole", "--epochs", "2") == 0

    real = run.Run.train_epoch

    def interrupted_in_the_second_epoch(one, *arguments):
        if one.epoch == 1:
            raise KeyboardInterrupt
        return real(one, *arguments)

    monkeypatch.setattr(run.Run, "train_epoch", interrupted_in_the_second_epoch)
    assert _start(data, tmp_path / "broken", "--epochs", "2") == 130
    assert [row["epoch"] for row in _rows(tmp_path / "broken/log.csv")] == ["1"]
    monkeypatch.setattr(run.Run, "train_epoch", real)
    assert fit.main(["--resume", "--out", str(tmp_path / "broken")]) == 0

    whole, resumed = _weights(tmp_path / "whole"), _weights(tmp_path / "broken")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    for name in ("held_out.json", "decision.json", "folds.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "broken" / name).read_text()


def test_of_a_finished_run_the_averaged_network_is_kept_and_measured_again(data, tmp_path):
    assert _start(data, tmp_path / "run", "--epochs", "1") == 0
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert not {"network", "optimiser"} & state.keys()
    told = (tmp_path / "run/held_out.json").read_text()
    (tmp_path / "run/held_out.json").unlink()
    assert fit.main(["--resume", "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run/held_out.json").read_text() == told


def test_a_run_that_an_older_version_began_is_refused(data, tmp_path, capsys):
    assert _start(data, tmp_path / "run", "--epochs", "1") == 0
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    state["config"]["epochs"] = 2
    state["optimiser"] = {"param_groups": [{}, {}]}
    torch.save(state, tmp_path / "run/last.pt")
    assert fit.main(["--resume", "--out", str(tmp_path / "run")]) == 2
    assert "begun by an older version" in capsys.readouterr().err


def test_the_encoder_learns_at_its_share_of_the_rate():
    settings = config.Config(data="", source_commit="", epochs=1, width=0.25, encoder_rate=0.25)
    groups = run.Run(settings, None, torch.device("cpu")).optimiser.param_groups
    shares = {id(p): group["share"] for group in groups for p in group["params"]}
    network = run.Run(settings, None, torch.device("cpu")).network
    names = [name for name, _ in network.named_parameters()]
    assert len(shares) == len(names)
    assert sorted(shares.values()) == sorted(
        0.25 if name.startswith("encoder.") else 1.0 for name in names
    )


def test_kill_9_loses_at_most_the_epoch_in_hand(data, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "train.fit", "--data", str(data), "--out", str(out)]
    command += ["--config", _config(tmp_path)]
    killed = subprocess.Popen(
        [*command, "--epochs", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (out / "last.pt").exists():
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    state = torch.load(out / "last.pt", weights_only=True)
    assert state["epoch"] >= 1
    # Shorten the run so that the resumed part ends.
    state["config"]["epochs"] = state["epoch"] + 1
    torch.save(state, out / "last.pt")
    assert fit.main(["--resume", "--out", str(out)]) == 0
    assert len(_rows(out / "log.csv")) == state["epoch"] + 1


def test_a_time_budget_ends_the_run(data, tmp_path):
    assert _start(data, tmp_path / "run", "--minutes", "0.01", "--fold", "none") == 0
    assert len(_rows(tmp_path / "run/log.csv")) < 20
    assert not (tmp_path / "run/held_out.json").exists()


def test_a_long_epoch_of_a_run_with_a_time_budget_ends_for_a_checkpoint(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "LONGEST_EPOCH", 0.0)
    config = _config(tmp_path, SMALL.replace("steps_per_epoch = 2", "steps_per_epoch = 100000"))
    arguments = ["--data", str(data), "--config", config, "--fold", "none"]
    assert fit.main([*arguments, "--out", str(tmp_path / "run"), "--minutes", "0.05"]) == 0
    rows = _rows(tmp_path / "run/log.csv")
    assert len(rows) > 1
    assert float(rows[0]["minutes"]) < float(rows[-1]["minutes"])


def test_a_run_is_never_overwritten(data, tmp_path, capsys):
    assert _start(data, tmp_path / "run", "--epochs", "1") == 0
    with pytest.raises(SystemExit) as stop:
        _start(data, tmp_path / "run", "--epochs", "1")
    assert stop.value.code == 2
    assert "add --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x", "--resume"], "start the run without --resume"),
        (["--out", "x"], "--data is needed"),
        (["--out", "x", "--data", "d"], "--minutes M or --epochs N"),
        (["--out", "x", "--data", "d", "--epochs", "-1"], "above zero"),
        (["--out", "x", "--data", "d", "--epochs", "1", "--fold", "5"], "invalid choice"),
    ],
)
def test_bad_arguments_end_in_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        fit.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_data_ends_before_training(tmp_path, capsys):
    root = draw_data(tmp_path / "data", patients=1, controls=0)
    (root / "patients/labels/segmentation_000.png").unlink()
    assert _start(root, tmp_path / "run", "--epochs", "1") == 2
    assert "segmentation_000.png is missing" in capsys.readouterr().err
    assert not (tmp_path / "run/last.pt").exists()


def test_a_run_is_not_resumed_on_other_data(data, tmp_path, capsys):
    assert _start(data, tmp_path / "run", "--epochs", "1") == 0
    other = draw_data(tmp_path / "other", patients=11, controls=5)
    assert fit.main(["--resume", "--out", str(tmp_path / "run"), "--data", str(other)]) == 2
    assert "not those that the run was started with" in capsys.readouterr().err


def test_too_few_patients_to_hold_any_out_is_an_error(tmp_path, capsys):
    root = draw_data(tmp_path / "data", patients=3, controls=0)
    assert _start(root, tmp_path / "run", "--epochs", "1") == 2
    assert "use --fold none" in capsys.readouterr().err


def test_the_learning_rate_warms_up_and_comes_down():
    rates = [run.learning_rate_at(i / 100, 1.0) for i in range(101)]
    assert rates[0] < 0.1
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[100] == pytest.approx(0, abs=1e-6)
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
