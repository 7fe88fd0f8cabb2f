"""The speed of the shipped model is measured and reported, here with few rounds."""

import json
import re
from pathlib import Path

import pytest
import torch

from export import networks, speed
from serve.phantom import phantom
from serve.segmenter import Segmenter
from tests.folders import draw_data
from train import fit, warm_start
from train.evaluate import views_at

MODEL = Path(__file__).resolve().parent.parent / "artifacts/model.onnx"


@pytest.fixture(scope="module")
def module():
    return networks.shipped_module(warm_start.read(MODEL))


def test_torch_is_timed_with_the_function_of_the_file(module):
    pixels = phantom(300, 200)[0]
    mask = Segmenter.load(MODEL)(pixels)
    assert mask.any()
    assert (speed.in_torch(module)(pixels) != mask).mean() < 1e-3


def test_multiply_adds_are_those_of_every_convolution_in_every_view(module):
    # A stem of 32 filters of 3×3 on a quarter of each side, of a body padded to 64.
    stem = 32 * 9 / 16
    with torch.no_grad():
        *_, first, last, _ = module.prepare(torch.from_numpy(phantom(430, 400)[0]))
    width = -(-int(last - first) // 8) * 8
    views = views_at(module.segmentation.view_scales)
    sides = [(432 * scale, width * scale) for scale, _ in views]
    padded = sum(-(-h // 64) * -(-w // 64) * 64**2 for h, w in sides)
    counted = []
    hook = module.segmentation.network.encoder.features[0][0].register_forward_hook(
        lambda conv, _, output: counted.append(output.numel() * conv.weight[0].numel())
    )
    total = speed.multiply_adds(module, 430)
    hook.remove()
    assert sum(counted) == stem * padded
    assert 100 * sum(counted) < total < 1000 * sum(counted)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(speed, "HEIGHTS", (64, 70))
    monkeypatch.setattr(speed, "WIDTHS", (0.5,))
    monkeypatch.setattr(speed, "RESOLUTIONS", (False,))
    monkeypatch.setattr(networks, "CALIBRATION_PHANTOMS", 1)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_report_has_a_row_for_each_engine_and_variant(tmp_path, quick):
    assert speed.main(["--model", str(MODEL), "--artifacts", str(tmp_path)]) == 0
    text = (tmp_path / "SPEED.md").read_text()
    assert len(re.findall(r"^\| (?:float32|int8|torch) \| 400×(?:64|70) \|", text, re.M)) == 6
    assert len(re.findall(r"^\| 0.5 \| half \| (?:float32|int8) \|", text, re.M)) == 2
    for table in re.findall(r"(?:^\|.+\n)+", text, re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert (tmp_path / "speed.png").stat().st_size > 1000
    shipped = json.loads((tmp_path / "speed.json").read_text())["shipped"]
    assert all(0 < row["share_of_peak"] < 2 and row["p50_ms"] > 0 for row in shipped)


def test_the_dice_of_a_trained_variant_is_that_of_those_it_held_out(tmp_path, quick):
    data, run = draw_data(tmp_path / "data", patients=10, controls=5), tmp_path / "run"
    (tmp_path / "narrow.toml").write_text(
        "width = 0.5\nscales = [[1.0, 0.25]]\nepochs = 1\nsteps_per_epoch = 2\n"
    )
    assert fit.main([*f"--data {data} --config {tmp_path}/narrow.toml --out {run}".split()]) == 0
    command = ["--model", str(MODEL), "--artifacts", str(tmp_path), "--runs", str(run)]
    assert speed.main([*command, "--data", str(data)]) == 0
    measured = json.loads((run / "decision.json").read_text())["measured"]
    variants = json.loads((tmp_path / "speed.json").read_text())["variants"]
    float32 = next(row for row in variants if row["engine"] == "float32")
    assert measured.startswith(f"mean {float32['dice']:.4f},")
    assert (float32["patients"], float32["epochs"]) == (2, 1)
    assert speed.main([*command, "--data", str(draw_data(tmp_path / "other", 6, 2))]) == 2


def test_a_missing_model_is_told(tmp_path, capsys):
    assert speed.main(["--model", str(tmp_path / "model.onnx")]) == 2
    assert "cannot be read" in capsys.readouterr().err
