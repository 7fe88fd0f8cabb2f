"""What is shipped is what the weights give, and says what was measured.

ARTIFACTS=FOLDER tests other files than those of the project.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import tumour_segmenter
from serve.canary import TOLERANCE
from tests.conftest import PROJECT
from tests.support.int8 import overflowing
from tumour_segmenter.contract import dice
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import open_model

ARTIFACTS = Path(os.environ.get("ARTIFACTS", PROJECT / "artifacts"))
WEIGHTS = sorted((ARTIFACTS / "weights").glob("fold-*.safetensors"))
MODELS = {"model.onnx": WEIGHTS}
MODELS |= {f"members/{path.stem}.onnx": [path] for path in WEIGHTS}
PHANTOMS = ({"height": 426, "seed": 3}, {"height": 489, "seed": 0}, {"height": 701, "seed": 8})

pytestmark = pytest.mark.skipif(not WEIGHTS, reason="there are no weights yet")


@pytest.fixture(scope="module")
def out_of_fold() -> dict:
    return json.loads((ARTIFACTS / "out_of_fold.json").read_text())


@pytest.mark.parametrize("name", MODELS)
def test_the_file_gives_what_its_weights_give(name, out_of_fold):
    torch = pytest.importorskip("torch")
    from export.graph import PixelsToMask
    from train.members import load_members
    from train.operating_point import Calibration
    from train.segmentation import ensemble

    members = load_members(MODELS[name])
    minimum = out_of_fold["operating_points"]["balanced"]["minimum_probability"]
    calibration = Calibration(**out_of_fold["calibration"])
    module = PixelsToMask(ensemble([m.weights for m in members]), calibration, minimum).eval()
    segmenter = open_model(ARTIFACTS / name)
    assert json.loads(segmenter.metadata["members"]) == [m.identity for m in members]
    agreements = []
    for arguments in PHANTOMS[: None if len(members) > 1 else 1]:
        pixels, _ = phantom(**arguments)
        with torch.no_grad():
            expected = module(torch.from_numpy(pixels)).numpy()
        assert np.count_nonzero(expected) > 100
        agreements.append(dice(expected, segmenter(pixels)))
    assert np.mean(agreements) > 0.97


@pytest.mark.parametrize("name", MODELS)
def test_the_metadata_are_those_that_were_measured(name, out_of_fold):
    segmenter = open_model(ARTIFACTS / name)
    metadata = segmenter.metadata
    assert metadata["version"] == tumour_segmenter.__version__ == out_of_fold["version"]
    assert metadata["data_fingerprint"] == out_of_fold["data_fingerprint"]
    assert segmenter.operating_points == out_of_fold["operating_points"]
    assert metadata["operating_point"] == out_of_fold["operating_point"] == "balanced"
    assert json.loads(metadata["calibration"]) == out_of_fold["calibration"]
    point = out_of_fold["operating_points"]["balanced"]
    figure = f"{point['dice']:.4f} ± {point['dice_standard_error']:.4f}"
    assert metadata["dice"].startswith(figure)
    assert set(out_of_fold["members"][0]) == {"file", "fold", "seed", "sha256"}
    for member in json.loads(metadata["members"]):
        assert member in out_of_fold["members"]
    known = int(metadata["canary_tumour_pixels"])
    assert np.count_nonzero(segmenter(phantom()[0])) == pytest.approx(known, TOLERANCE)
    assert known > 0


@pytest.mark.parametrize("name", MODELS)
def test_no_cpu_overflows_when_it_adds_two_products_in_16_bits(name):
    onnx = pytest.importorskip("onnx")
    assert not overflowing(onnx.load(ARTIFACTS / name))


def test_nobody_measured_was_trained_on_by_the_member_of_the_fold(out_of_fold):
    images = {**out_of_fold["patients"], **out_of_fold["controls"]}
    for name, paths in MODELS.items():
        trained_on = set(open_model(ARTIFACTS / name).trained_on)
        folds = {int(path.stem.rpartition("-")[2]) for path in paths}
        unseen = {row["hash"] for row in images.values() if {row["fold"]} == folds}
        assert not unseen & trained_on
        assert trained_on <= {row["hash"] for row in images.values()}


def test_the_file_is_small_and_the_only_one():
    assert (ARTIFACTS / "model.onnx").stat().st_size < 20e6
    assert [path.name for path in ARTIFACTS.glob("*.onnx")] == ["model.onnx"]


def test_the_operating_points_do_what_they_are_for(out_of_fold):
    points = out_of_fold["operating_points"]
    assert points["balanced"]["specificity"] >= 0.5
    assert points["specific"]["specificity"] >= 0.8
    assert points["balanced"]["dice"] == points["sensitive"]["dice"]
    empty = [pixels["specific"] == 0 for _, pixels in out_of_fold["tricky_controls"].values()]
    assert sum(empty) >= 3
    assert min(row["dice"]["balanced"] for row in out_of_fold["patients"].values()) > 0.1
