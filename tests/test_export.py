"""A short run is exported, and what cannot be exported leaves the old file alone."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import __main__ as export
from export import int8, onnx_file, shipped
from export.graph import PixelsToMask
from export.run import NAMES, load_decision, load_run
from serve.phantom import phantom
from serve.segmenter import Segmenter
from tests.folders import draw_data
from train import checkpoint, fit, slices
from train.calibration import Calibration
from train.decision import FEWEST_PIXELS, Decision
from train.old_encoder import STAGES


def decide(
    path: Path, slope: float, least_probability: float = 0.01, measured: str = "mean 0.5"
) -> str:
    decision = {
        "calibration": {"slope": slope},
        "least_probability": least_probability,
        "measured": measured,
    }
    path.write_text(json.dumps(decision))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run whose network calls about as much tumour as not."""
    folder = tmp_path_factory.mktemp("runs")
    data = draw_data(folder / "data", patients=10, controls=5)
    (folder / "small.toml").write_text(
        "scales = [[1.0, 0.25]]\nepochs = 1\nsteps_per_epoch = 2\npatients_per_batch = 2\n"
    )
    start = ["--data", str(data), "--config", str(folder / "small.toml")]
    assert fit.main([*start, "--out", str(folder / "run")]) == 0
    state = torch.load(folder / "run/last.pt", weights_only=True)
    network = checkpoint.averaged_network(state)
    uptake = torch.from_numpy(255 - phantom(448, 384)[0])[None, None] / 255
    with torch.no_grad():
        median = network(uptake).median()
    state["average"]["module.head.bias"] -= median
    torch.save(state, folder / "run/last.pt")
    # So steep that even this network is sure.
    decide(folder / "run/decision.json", 1e9)
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run):
    out = run.parent / "artifacts/model.onnx"
    assert export.main(["--run", str(run), "--out", str(out)]) == 0
    return out


def test_the_file_gives_masks_of_any_size(exported):
    segmenter = Segmenter.load(exported)
    tumour = set()
    for size in ((1, 1), (3, 500), (991, 400), (1200, 70)):
        mask = segmenter(phantom(*size)[0])
        assert mask.shape == size
        assert mask.dtype == np.uint8
        tumour |= set(np.unique(mask))
    assert tumour == {0, 255}


def test_the_file_finds_the_same_in_an_image_on_its_head_and_under_salt_and_pepper(exported):
    segmenter = Segmenter.load(exported)
    pixels, _ = phantom(300, 200, seed=4)
    mask = segmenter(pixels)
    assert 0 < (mask > 0).mean() < 1
    turned = segmenter(np.ascontiguousarray(pixels[::-1]))[::-1]
    assert (mask != turned).mean() < 1e-3
    speckled = pixels.copy()
    speckled[::20, ::20] = 0
    assert (mask != segmenter(speckled)).mean() < 1e-2


def test_the_rows_of_a_slice_are_drawn_the_same_if_the_labels_were(exported):
    mask = Segmenter.load(exported)(phantom(300, 200, seed=4)[0]) > 0
    assert 0 < mask.mean() < 1
    assert slices.kept_by([mask])
    model = onnx.load(exported)
    assert shipped.segmentation_of(model).by_slices
    training = next(fact for fact in model.metadata_props if fact.key == "training")
    training.value = json.dumps(json.loads(training.value) | {"by_slices": False})
    assert not shipped.segmentation_of(model).by_slices


def test_an_image_of_which_the_network_is_nowhere_sure_gets_an_empty_mask(run):
    segmentation, *_ = load_run(run)
    pixels = torch.from_numpy(phantom(128, 128)[0])
    with torch.no_grad():
        assert PixelsToMask(segmentation, Decision(Calibration(1e9), 0.01))(pixels).any()
        assert not PixelsToMask(segmentation, Decision(Calibration(0.5), 1 - 1e-9))(pixels).any()


def test_too_few_pixels_that_reach_the_least_probability_are_not_drawn(run):
    segmentation, *_ = load_run(run)
    module = PixelsToMask(segmentation, Decision(Calibration(1.0), 0.5))
    upright, logits = torch.zeros(1, 1, 1, 1, dtype=torch.bool), torch.full((1, 1, 40, 50), -6.0)
    logits.view(-1)[: FEWEST_PIXELS - 1] = 3
    assert not module.decide(logits, upright).any()
    logits.view(-1)[FEWEST_PIXELS] = 3
    assert (module.decide(logits, upright) == 255).sum() == FEWEST_PIXELS


def test_the_file_says_what_made_it(exported, run):
    metadata = Segmenter.load(exported).metadata
    assert metadata["folds"] == "fold 0 of 5 held out, seed 0"
    assert metadata["dice"] == "mean 0.5"
    assert metadata["data_fingerprint"] == json.loads((run / "folds.json").read_text())["data"]
    assert json.loads(metadata["training"])["epochs"] == 1
    assert {"source_commit", "version", "calibration", "opset"} <= set(metadata)
    assert str(run) not in json.dumps(metadata)
    model = onnx.load(exported)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", onnx_file.OPSET)]
    assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == [
        "height",
        "width",
    ]
    digest = hashlib.sha256(exported.read_bytes()).hexdigest()
    assert exported.with_name("model.onnx.sha256").read_text() == f"{digest}  model.onnx\n"


def test_the_gate_is_kept_with_the_file(exported):
    text = exported.with_suffix(".parity.md").read_text()
    assert text.count("passed") == len(onnx_file.GATE_SIZES)
    assert "| 991 | 400 |" in text


@pytest.fixture
def quick(monkeypatch, exported):
    """Skip the tracing: give the file that was exported before."""
    monkeypatch.setattr(onnx_file, "to_onnx", lambda module: onnx.load(exported))


def test_a_network_that_differs_is_refused_and_the_old_file_stays(run, tmp_path, capsys, quick):
    out = tmp_path / "model.onnx"
    out.write_bytes(b"good")
    other = decide(tmp_path.parent / "decision.json", 0.25)
    assert export.main(["--run", str(run), "--out", str(out), "--decision", other]) == 1
    assert out.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [out]
    output = capsys.readouterr()
    assert "FAILED" in output.out
    assert "torch and onnxruntime disagree; nothing was written" in output.err


def test_a_gate_without_tumour_does_not_open():
    blank = [onnx_file.Parity(10, 10, tumour=0, flipped=0)]
    assert "no tumour" in onnx_file.fault(blank)
    assert onnx_file.fault([*blank, onnx_file.Parity(10, 10, tumour=1, flipped=0)]) is None
    assert "disagree" in onnx_file.fault([onnx_file.Parity(10, 10, tumour=9, flipped=2)])


def test_the_8_bit_twin_is_written_beside_the_float32_file(run, tmp_path, quick, monkeypatch):
    """Whether the masks of this untrained network agree is not the question here."""
    monkeypatch.setattr(int8, "MOST_LOST", 1.0)
    monkeypatch.setattr(int8, "LEAST_AGREEMENT", 0.0)
    out = tmp_path / "model.onnx"
    data = str(run.parent / "data")
    assert export.main(["--run", str(run), "--out", str(out), "--data", data]) == 0
    twin = tmp_path / "model.int8.onnx"
    assert twin.stat().st_size < out.stat().st_size / 2
    convolutions = [n for n in onnx.load(twin).graph.node if n.op_type == "Conv"]
    assert sum(n.input[0].endswith("_DequantizeLinear_Output") for n in convolutions) > 50
    # Of the body and of its mirror image: the first convolutions stay in float32, and the last.
    weights = [n.input[1].endswith("_DequantizeLinear_Output") for n in convolutions]
    assert weights[:7] == [False] * 6 + [True]
    assert weights[-3:] == [True, False, False]
    for size in ((1, 1), (991, 400)):
        assert Segmenter.load(twin)(phantom(*size)[0]).shape == size
    assert Segmenter.load(twin).metadata["name"] == "mobilenetv2-unet-int8"
    assert "float32 against int8" in out.with_suffix(".parity.md").read_text()


def test_an_exported_file_takes_another_decision(
    run, exported, tmp_path, quick, monkeypatch, capsys
):
    monkeypatch.setattr(int8, "MOST_LOST", 1.0)
    monkeypatch.setattr(int8, "LEAST_AGREEMENT", 0.0)
    decision = decide(tmp_path / "decision.json", 1e9, 0.02, "anew")
    command = ["--model", str(exported), "--out", str(tmp_path / "again.onnx")]
    command += ["--decision", decision, "--data"]
    assert export.main([*command, str(run.parent / "data")]) == 0
    before, after = (Segmenter.load(path).metadata for path in (exported, tmp_path / "again.onnx"))
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert {"least_probability", "dice", "sha256"} <= changed
    assert changed <= {"least_probability", "dice", "sha256", "export_commit"}
    assert (tmp_path / "again.folds.json").read_text() == (
        exported.with_suffix(".folds.json").read_text()
    )
    other = draw_data(tmp_path / "data", patients=2, controls=0)
    assert export.main([*command, str(other)]) == 2
    assert "not the data that the model was trained on" in capsys.readouterr().err


def test_images_are_seen_at_the_scales_that_the_decision_was_made_for(
    run, tmp_path, exported, monkeypatch
):
    modules = []

    def to_onnx(module: PixelsToMask) -> onnx.ModelProto:
        modules.append(module)
        return onnx.load(exported)

    monkeypatch.setattr(onnx_file, "to_onnx", to_onnx)
    decision = Path(decide(tmp_path / "decision.json", 1e9))
    content = json.loads(decision.read_text())
    decision.write_text(json.dumps(content | {"view_scales": [1.0, 1.5]}))
    out = ["--out", str(tmp_path / "model.onnx")]
    export.main(["--run", str(run), "--decision", str(decision), *out])
    assert modules[0].segmentation.view_scales == (1.0, 1.5)


def test_a_run_that_was_interrupted_is_refused(run, tmp_path, capsys):
    interrupted = shutil.copytree(run, tmp_path / "run")
    state = torch.load(interrupted / "last.pt", weights_only=True)
    torch.save(state | {"epoch": 0}, interrupted / "last.pt")
    out = tmp_path / "model.onnx"
    assert export.main(["--run", str(interrupted), "--out", str(out)]) == 2
    assert "the run was interrupted; let it finish first" in capsys.readouterr().err
    assert not out.exists()


def test_a_decision_that_says_no_scales_leaves_those_of_what_it_is_given_to(tmp_path):
    path = Path(decide(tmp_path / "decision.json", 1e9))
    content = json.loads(path.read_text())
    content.pop("view_scales", None)
    path.write_text(json.dumps(content))
    _, view_scales, _ = load_decision(path, (1.0, 1.5))
    assert view_scales == (1.0, 1.5)


def test_an_8_bit_twin_is_refused_when_it_loses_dice_or_draws_other_masks():
    good = int8.Agreement("patient_000", float32=0.8, int8=0.799, each_other=0.99)
    worse = int8.Agreement("patient_001", float32=0.8, int8=0.78, each_other=0.99)
    other = int8.Agreement("patient_002", float32=0.8, int8=0.8, each_other=0.9)
    assert int8.fault([good]) is None
    assert "loses 0.0105" in int8.fault([good, worse])
    assert "agree to 0.9450" in int8.fault([good, other])


def test_other_data_than_the_runs_is_refused(run, tmp_path, capsys, quick):
    data = draw_data(tmp_path / "data", patients=2, controls=0)
    out = tmp_path / "model.onnx"
    assert export.main(["--run", str(run), "--out", str(out), "--data", str(data)]) == 2
    assert "not the data that the run was trained on" in capsys.readouterr().err


@pytest.mark.parametrize("numbers", [(0, 0.5), (-1, 0.5), (float("inf"), 0.5), (2, 1), (2, 0)])
def test_a_decision_out_of_range_is_refused(run, tmp_path, capsys, numbers):
    out = tmp_path / "model.onnx"
    decision = decide(tmp_path / "decision.json", *numbers)
    assert export.main(["--run", str(run), "--out", str(out), "--decision", decision]) == 2
    assert "expected a " in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["last.pt", "folds.json", "upright.json", "decision.json"])
def test_an_unfinished_run_is_refused_by_name(run, tmp_path, capsys, missing):
    copy = tmp_path / "run"
    copy.mkdir()
    for file in run.iterdir():
        if file.name != missing:
            (copy / file.name).write_bytes(file.read_bytes())
    assert export.main(["--run", str(copy), "--out", str(tmp_path / "model.onnx")]) == 2
    assert missing in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


def test_a_run_of_any_encoder_has_a_name_to_be_exported_by():
    assert set(NAMES) == set(STAGES)
    assert len(set(NAMES.values())) == len(NAMES)
