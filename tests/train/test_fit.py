"""Short runs on synthetic phantoms: what a run leaves behind, and that nothing is lost."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support.folders import draw_data, save_rgba
from tests.support.tiny import TINY
from train import cli, dataset, fit, weights

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return draw_data(tmp_path_factory.mktemp("data"), patients=10, controls=5)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A finished run of four steps on fold 1."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert _start(data, out, "--steps", "4", "--fold", "1") == 0
    return out


def _start(data: Path, out: Path, *more: str) -> int:
    return fit.main(["--data", str(data), "--out", str(out), "--config", "tiny", *more])


def _rows(out: Path) -> list[dict]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _tensors(out: Path) -> dict[str, torch.Tensor]:
    return weights.load(out / "weights.safetensors").network.state_dict()


def _same(one: Path, other: Path) -> bool:
    first, second = _tensors(one), _tensors(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_weights_log_pictures_folds_and_settings(run):
    assert sorted(path.name for path in run.iterdir()) == [
        "config.json",
        "curves.png",
        "folds.json",
        "log.csv",
        "preview.png",
        "weights.safetensors",
    ]
    rows = _rows(run)
    assert [(row["epoch"], row["steps"]) for row in rows] == [("1", "2"), ("2", "4")]
    assert all(0 <= float(row["dice_mean"]) <= 1 for row in rows)
    assert json.loads((run / "config.json").read_text())["fold"] == 1
    for picture in ("curves.png", "preview.png"):
        with Image.open(run / picture) as image:
            assert image.width > 200


def test_the_weights_list_what_made_them(run, data):
    facts = weights.load(run / "weights.safetensors").facts
    cases = dataset.load(data)
    folds = dataset.folds(cases)
    assert json.loads((run / "folds.json").read_text())["folds"] == folds
    trained_on = {case.hash for case in cases if folds[case.name] != 1}
    assert set(json.loads(facts["trained_on"])) == trained_on
    assert len(trained_on) == 12
    assert (facts["fold"], facts["seed"], facts["steps"]) == ("1", "0", "4")
    assert facts["data_fingerprint"] == dataset.fingerprint(cases)
    assert facts["training_commit"]
    assert facts["started_from"].startswith("ImageNet, sha256 ")
    settings = json.loads(facts["settings"])
    assert settings["patients_per_batch"] == 2
    assert settings["by_slices"] in (True, False)
    assert str(data) not in json.dumps(facts), "paths are nobody else's business"


def test_the_fold_is_validated_on_and_never_trained_on(data, tmp_path, monkeypatch):
    trained, judged = set(), set()
    real = fit.Batches

    def batches(patients, controls, *more, **options):
        trained.update(case.name for case in (*patients, *controls))
        assert all(case.is_patient for case in patients)
        assert not any(case.is_patient for case in controls)
        return real(patients, controls, *more, **options)

    monkeypatch.setattr(fit, "Batches", batches)
    monkeypatch.setattr(
        fit.plots, "preview_sheet", lambda rows, out: judged.update(c.name for c, _, _ in rows)
    )
    assert _start(data, tmp_path / "run", "--steps", "1", "--fold", "3") == 0
    folds = dataset.folds(dataset.load(data))
    assert trained == {name for name, fold in folds.items() if fold != 3}
    assert judged == {name for name, fold in folds.items() if fold == 3 and "patient" in name}


def test_the_averaged_network_is_validated_and_saved(data, tmp_path, monkeypatch):
    judged = []
    real = fit.Segmentation

    def segmentation(networks, *more):
        judged.extend(networks)
        return real(networks, *more)

    monkeypatch.setattr(fit, "Segmentation", segmentation)
    assert _start(data, tmp_path / "averaged", "--steps", "4") == 0
    monkeypatch.setitem(TINY, "ema_decay", 0.0)  # the average is then the last network
    assert _start(data, tmp_path / "last", "--steps", "4") == 0
    assert not _same(tmp_path / "averaged", tmp_path / "last")
    saved = _tensors(tmp_path / "averaged")
    for name, value in judged[0].state_dict().items():
        if name in saved and value.is_floating_point():
            assert torch.allclose(saved[name], value, rtol=1e-2, atol=1e-3), name
    assert not judged[0].training


def test_it_learns(data, tmp_path, monkeypatch):
    monkeypatch.setitem(TINY, "steps_per_epoch", 12)
    assert _start(data, tmp_path / "run", "--steps", "24") == 0
    first, last = (float(row["train_loss"]) for row in _rows(tmp_path / "run"))
    assert last < 0.9 * first


def test_the_seed_decides_all(data, tmp_path, run):
    more = ("--steps", "4", "--fold", "1")
    assert _start(data, tmp_path / "same", *more) == 0
    assert _start(data, tmp_path / "other", *more, "--seed", "1") == 0
    assert _same(run, tmp_path / "same")
    assert not _same(run, tmp_path / "other")


class Stop(KeyboardInterrupt):
    pass


@pytest.fixture
def stopped(data, tmp_path, monkeypatch) -> Iterator[Path]:
    """A run of four steps on fold 1 that is interrupted in its second epoch."""
    real, began = fit.Batches, []

    def batches(*arguments, **options):
        began.append(1)
        if len(began) == 2:
            raise Stop
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "Batches", batches)
        assert _start(data, tmp_path / "broken", "--steps", "4", "--fold", "1") == 130
    return tmp_path / "broken"


def test_resuming_gives_what_an_unbroken_run_gives(stopped, run, capsys):
    assert [row["steps"] for row in _rows(stopped)] == ["2"]
    assert not (stopped / "weights.safetensors").exists()
    assert fit.main(["--resume", "--out", str(stopped)]) == 0
    assert "50% used" in capsys.readouterr().out
    assert _same(run, stopped)
    for name in ("folds.json", "config.json"):
        assert (run / name).read_text() == (stopped / name).read_text()
    one, other = ([row | {"minutes": ""} for row in _rows(out)] for out in (run, stopped))
    assert one == other
    assert float(one[1]["learning_rate"]) < float(one[0]["learning_rate"])
    assert weights.load(stopped / "weights.safetensors").facts["steps"] == "4"


def test_a_run_that_is_done_is_not_trained_again(run, capsys):
    before = (run / "weights.safetensors").stat().st_mtime_ns
    assert fit.main(["--resume", "--out", str(run)]) == 0
    assert (run / "weights.safetensors").stat().st_mtime_ns == before
    assert f"python -m export --weights {run / 'weights.safetensors'}" in capsys.readouterr().out


def test_settings_cannot_be_changed_by_resuming(stopped, capsys):
    for option, value in (("--minutes", "5"), ("--seed", "1"), ("--start-from", "x")):
        assert fit.main(["--resume", "--out", str(stopped), option, value]) == 2
        assert f"{option} cannot be changed" in capsys.readouterr().err


def test_a_run_is_not_resumed_on_other_data(stopped, tmp_path, capsys):
    other = draw_data(tmp_path / "other", patients=11, controls=5)
    assert fit.main(["--resume", "--out", str(stopped), "--data", str(other)]) == 2
    assert "not the data that the run was started with" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_checkpoint_that_cannot_be_read_is_named(stopped, content, capsys):
    if content is None:
        torch.save({"epoch": 3}, stopped / "last.pt")
    else:
        (stopped / "last.pt").write_bytes(content)
    assert fit.main(["--resume", "--out", str(stopped)]) == 2
    error = capsys.readouterr().err
    assert "last.pt: " in error
    assert error.count("error: ") == 1


def test_kill_9_loses_at_most_the_epoch_under_way(data, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "tests.support.tiny", "--data", str(data), "--out", str(out)]
    command += ["--config", "tiny"]
    killed = subprocess.Popen(
        [*command, "--steps", "2000"], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=-3
    )
    deadline = time.monotonic() + 120
    while not (out / "last.pt").exists():
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    state = torch.load(out / "last.pt", weights_only=True)
    assert state["steps"] >= 2
    # Shorten the run so that the resumed part ends.
    state["config"]["steps"] = state["steps"] + 2
    torch.save(state, out / "last.pt")
    assert fit.main(["--resume", "--out", str(out)]) == 0
    assert int(_rows(out)[-1]["steps"]) == state["steps"] + 2


def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(stopped):
    before = (stopped / "last.pt").read_bytes()
    script = (
        "import resource, signal, sys; from train.fit import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000,) * 2)\n"
        f"sys.exit(main(['--resume', '--out', {str(stopped)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == f"error: {stopped / 'last.pt'}: File too large"
    assert "Traceback" not in done.stderr
    assert (stopped / "last.pt").read_bytes() == before
    assert not [path for path in stopped.iterdir() if "part" in path.name]


def test_a_time_budget_ends_the_run(data, tmp_path):
    assert _start(data, tmp_path / "run", "--minutes", "0.01") == 0
    rows = _rows(tmp_path / "run")
    assert float(rows[-1]["minutes"]) >= 0.01
    assert len(rows) < 20


def test_a_long_epoch_ends_for_a_checkpoint(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "LONGEST_EPOCH", 0.0)
    monkeypatch.setitem(TINY, "steps_per_epoch", 100000)
    assert _start(data, tmp_path / "run", "--steps", "3") == 0
    assert [row["steps"] for row in _rows(tmp_path / "run")] == ["1", "2", "3"]


def test_it_says_what_it_does_before_the_first_step(data, tmp_path, capsys):
    assert _start(data, tmp_path / "run", "--steps", "1", "--precision", "bfloat16") == 0
    shown = capsys.readouterr()
    for part in (
        "precision bfloat16",
        "10 patients, 5 controls",
        "fold 0 of 5: 2 patients are validated on, 8 patients and 4 controls are trained on",
        "batch: patients 2, controls 1",
        "budget: 1 steps of",
        "ImageNet weights",
    ):
        assert part in shown.out


@pytest.mark.parametrize(
    ("flags", "precision"), [("fpu amx_bf16 x", "bfloat16"), ("fpu avx512f", "float32")]
)
def test_the_precision_is_what_the_cpu_is_fast_in(flags, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cli.Path, "read_text", lambda path: f"flags : {flags}\n")
    arguments = fit._parser().parse_args(["--out", "x", "--steps", "1"])
    assert cli.settings_of(arguments)["precision"] == precision
    arguments.precision = "float32"
    assert cli.settings_of(arguments)["precision"] == "float32"


def test_whether_labels_were_drawn_slice_by_slice_is_looked_at(tmp_path):
    data = draw_data(tmp_path / "data", patients=10, controls=1, size=(126, 120))

    def by_slices(name: str) -> bool:
        assert _start(data, tmp_path / name, "--steps", "1") == 0
        facts = weights.load(tmp_path / name / "weights.safetensors").facts
        return json.loads(facts["settings"])["by_slices"]

    assert not by_slices("looked")
    for case in dataset.load(data):
        if case.is_patient:
            rows = [row // 3 * 3 for row in range(126)]
            path = data / f"patients/labels/segmentation_{case.name[8:]}.png"
            save_rgba(path, case.truth[rows].astype("uint8") * 255)
    assert by_slices("looked-again")


def test_fine_tuning_starts_from_weights_and_adds_to_what_was_trained_on(
    run, tmp_path, monkeypatch
):
    other = draw_data(tmp_path / "other", patients=10, controls=2, size=(130, 120))
    start = str(run / "weights.safetensors")
    monkeypatch.setitem(TINY, "learning_rate", 1e-9)
    assert _start(other, tmp_path / "tuned", "--steps", "1", "--start-from", start) == 0
    before, tuned = (weights.load(out / "weights.safetensors") for out in (run, tmp_path / "tuned"))
    name = "decoder.0.reduce.0.weight"
    assert torch.allclose(tuned.network.state_dict()[name], before.network.state_dict()[name])
    earlier, now = (set(json.loads(w.facts["trained_on"])) for w in (before, tuned))
    assert earlier < now
    assert tuned.facts["started_from"].startswith("weights, sha256 ")


def test_no_one_is_validated_on_by_weights_that_were_trained_on_them(run, data, tmp_path, capsys):
    start = ("--start-from", str(run / "weights.safetensors"), "--steps", "1")
    assert _start(data, tmp_path / "leaky", *start, "--fold", "0") == 2
    assert "was trained on 3 of the 3 validation cases of fold 0" in capsys.readouterr().err
    assert not (tmp_path / "leaky/weights.safetensors").exists()
    assert _start(data, tmp_path / "fair", *start, "--fold", "1") == 0


def test_weights_that_do_not_list_what_they_were_trained_on_are_refused(
    run, data, tmp_path, capsys
):
    found = weights.load(run / "weights.safetensors")
    weights.save(tmp_path / "w", found.network, {}, found.upright)
    assert _start(data, tmp_path / "run", "--steps", "1", "--start-from", str(tmp_path / "w")) == 2
    assert "does not list the images it was trained on" in capsys.readouterr().err


def test_training_that_diverges_ends_with_a_reason(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TINY, "learning_rate", 1e30)
    assert _start(data, tmp_path / "run", "--steps", "8") == 2
    assert "diverged" in capsys.readouterr().err
    assert not (tmp_path / "run/weights.safetensors").exists()


def test_a_run_is_never_overwritten(run, data, capsys):
    assert _start(data, run, "--steps", "1") == 2
    assert "add --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x", "--data", "d", "--steps", "1", "--fold", "5"], "invalid choice"),
        (["--out", "x", "--data", "d", "--steps", "1", "--minutes", "1"], "not allowed with"),
        (["--out", "x", "--data", "d", "--config", "imagenet"], "fine-tune"),
    ],
)
def test_bad_arguments_end_in_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        fit.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--data is needed"),
        (["--resume"], "start the run without --resume"),
        (["--data", "d"], "one budget above zero"),
        (["--data", "d", "--steps", "-1"], "one budget above zero"),
        (["--data", "d", "--minutes", "nan"], "one budget above zero"),
        (["--data", "d", "--steps", "1", "--seed", "-1"], "seed is -1"),
        (["--data", "d", "--steps", "1"], "no patients/imgs"),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert fit.main(["--out", "x", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.rglob("*.json"))


def test_out_that_is_a_file_or_below_one_is_one_line(data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert _start(data, tmp_path / "file", "--steps", "1") == 2
    assert "is a file, expected the folder of a run" in capsys.readouterr().err
    assert _start(data, tmp_path / "file/run", "--steps", "1") == 2
    assert "file is a file, expected" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_bad_data_ends_before_training(tmp_path, capsys):
    root = draw_data(tmp_path / "data", patients=1, controls=0)
    (root / "patients/labels/segmentation_000.png").unlink()
    assert _start(root, tmp_path / "run", "--steps", "1") == 2
    assert "segmentation_000.png is missing" in capsys.readouterr().err


def test_too_few_patients_to_validate_on_is_an_error(tmp_path, capsys):
    root = draw_data(tmp_path / "data", patients=1, controls=0)
    assert _start(root, tmp_path / "run", "--steps", "1") == 2
    said = capsys.readouterr().err
    assert "of 1 patients for validation, too few" in said
    assert "10 patients are enough" in said
