"""What is shipped is what the weights give, and says what was measured.

ARTIFACTS=FOLDER tests other files than those of the project.
"""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

import tumour_segmenter
from export.graph import PixelsToMask
from serve.canary import TOLERANCE
from tests.conftest import PROJECT
from tests.support.int8 import overflowing
from train.members import load_members
from train.operating_point import Calibration, OperatingPoint
from train.segmentation import ensemble
from tumour_segmenter.contract import dice
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import open_model

pytestmark = pytest.mark.slow

ARTIFACTS = Path(os.environ.get("ARTIFACTS", PROJECT / "artifacts"))
WEIGHTS = sorted((ARTIFACTS / "weights").glob("fold-*.safetensors"))
MODELS = {"model.onnx": WEIGHTS, "fast.onnx": WEIGHTS[:2]}
PHANTOMS = ({"height": 426, "seed": 3}, {"height": 489, "seed": 0}, {"height": 701, "seed": 8})


@pytest.fixture(scope="module")
def out_of_fold() -> dict:
    return json.loads((ARTIFACTS / "out_of_fold.json").read_text())


@pytest.mark.parametrize("name", MODELS)
def test_the_file_gives_what_its_weights_give(name, out_of_fold):
    members = load_members(MODELS[name])
    figures = out_of_fold["operating_points"]["balanced"]
    point = OperatingPoint(figures["minimum_probability"], figures["threshold_factor"])
    segmentation = ensemble([member.weights for member in members], one_view=True)
    module = PixelsToMask(segmentation, Calibration(**out_of_fold["calibration"])).eval()
    segmenter = open_model(ARTIFACTS / name)
    assert json.loads(segmenter.metadata["members"]) == [m.identity for m in members]
    agreements = []
    for arguments in PHANTOMS:
        pixels, _ = phantom(**arguments)
        mask, probability = module.of_image(pixels, point)
        assert np.count_nonzero(mask) > 100
        found = segmenter.run(pixels, probability=True)
        agreements.append(dice(mask, found.mask))
        either = (probability > 0) | (found.probability > 0)
        assert np.abs(probability.astype(int) - found.probability)[either].mean() < 0.05 * 255
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
    assert not overflowing(onnx.load(ARTIFACTS / name))


def test_nobody_measured_was_trained_on_by_the_network_of_the_fold(out_of_fold):
    images = {**out_of_fold["patients"], **out_of_fold["controls"]}
    assert len(WEIGHTS) == 5
    for member in load_members(WEIGHTS):
        fold = member.identity["fold"]
        unseen = {row["hash"] for row in images.values() if row["fold"] == fold}
        assert len(unseen) > 50
        assert not unseen & member.trained_on
        assert member.trained_on <= {row["hash"] for row in images.values()}


def test_the_files_are_small_and_the_only_ones():
    sizes = {path.name: path.stat().st_size for path in ARTIFACTS.rglob("*.onnx")}
    assert set(sizes) == set(MODELS)
    assert sizes["model.onnx"] < 20e6
    assert sizes["fast.onnx"] < 8e6


def test_the_operating_points_do_what_they_are_for(out_of_fold):
    points = out_of_fold["operating_points"]
    assert points["sensitive"]["lesion_sensitivity"] >= 0.79  # 0.80 where it is fitted; nested here
    assert points["balanced"]["specificity"] >= 0.58
    assert points["specific"]["specificity"] >= 0.78
    assert points["balanced"]["dice"] > points["sensitive"]["dice"]
    assert min(row["dice"]["balanced"] for row in out_of_fold["patients"].values()) > 0.1
    empty = [pixels["specific"] == 0 for _, pixels in out_of_fold["tricky_controls"].values()]
    assert sum(empty) >= 2
