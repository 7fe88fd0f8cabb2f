"""The speed of the shipped model is measured and reported, here with few rounds."""

import json
import re
from pathlib import Path

import pytest
import torch

from export import speed
from serve.phantom import phantom
from serve.segmenter import Segmenter
from train import evaluate, warm_start

MODEL = Path(__file__).resolve().parent.parent / "artifacts/model.onnx"


@pytest.fixture(scope="module")
def module():
    return speed.shipped_module(warm_start.read(MODEL))


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
    width = -(-int(last - first) // 4) * 4
    sides = [(432 * scale, width * scale) for scale, _ in evaluate.VIEWS]
    padded = sum(-(-h // 64) * -(-w // 64) * 64**2 for h, w in sides)
    counted = []
    hook = module.segmentation.network.encoder.features[0][0].register_forward_hook(
        lambda conv, _, output: counted.append(output.numel() * conv.weight[0].numel())
    )
    total = speed.multiply_adds(module, 430)
    hook.remove()
    assert sum(counted) == stem * padded
    assert 100 * sum(counted) < total < 1000 * sum(counted)


def test_the_report_has_a_row_for_each_engine_and_variant(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(speed, "HEIGHTS", (64, 70))
    monkeypatch.setattr(speed, "WIDTHS", (0.5,))
    monkeypatch.setattr(speed, "RESOLUTIONS", (False,))
    monkeypatch.setattr(speed, "CALIBRATION", 1)
    threads = torch.get_num_threads()
    try:
        assert speed.main(["--model", str(MODEL), "--artifacts", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    text = (tmp_path / "SPEED.md").read_text()
    assert len(re.findall(r"^\| (?:float32|int8|torch) \| 400×(?:64|70) \|", text, re.M)) == 6
    assert len(re.findall(r"^\| 0.5 \| half \| (?:float32|int8) \|", text, re.M)) == 2
    assert (tmp_path / "speed.png").stat().st_size > 1000
    shipped = json.loads((tmp_path / "speed.json").read_text())["shipped"]
    assert all(0 < row["share_of_peak"] < 2 and row["p50_ms"] > 0 for row in shipped)


def test_a_missing_model_is_told(tmp_path, capsys):
    assert speed.main(["--model", str(tmp_path / "model.onnx")]) == 2
    assert "cannot be read" in capsys.readouterr().err
