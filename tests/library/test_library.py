"""`from tumour_segmenter import load`: array in, mask out."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import tumour_segmenter
from tests.conftest import PROJECT, write_artifact
from tumour_segmenter.errors import ArtifactError
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline

PIXELS, _ = phantom(150, 120)


def test_array_becomes_a_mask(artifact):
    segment = tumour_segmenter.load(artifact)
    mask = segment(PIXELS)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, Baseline()(PIXELS))
    assert segment.metadata["name"] == "tiny"


def test_model_is_that_of_the_environment(artifact, monkeypatch):
    monkeypatch.setenv("MODEL", os.fspath(artifact))
    assert tumour_segmenter.load().metadata["name"] == "tiny"
    assert tumour_segmenter.load("baseline").metadata["name"] == "baseline"
    monkeypatch.delenv("MODEL")
    assert tumour_segmenter.load().metadata["sha256"]


def test_operating_point_can_be_named(tmp_path):
    points = {
        "sensitive": {"minimum_probability": 0.5, "threshold_factor": 1},
        "specific": {"minimum_probability": 1.0, "threshold_factor": 1},
    }
    metadata = {"name": "tiny", "operating_points": json.dumps(points)}
    segment = tumour_segmenter.load(
        write_artifact(tmp_path / "a.onnx", metadata=metadata, minimum=True)
    )
    assert list(segment.operating_points) == ["sensitive", "specific"]
    default = segment(PIXELS)
    np.testing.assert_array_equal(segment(PIXELS, operating_point="sensitive"), default)
    assert segment(PIXELS, operating_point="specific").sum() < default.sum()
    with pytest.raises(ValueError, match="sensitive, specific"):
        segment(PIXELS, operating_point="best")


def test_part_of_an_array_and_a_read_only_one_are_taken(artifact):
    segment, view = tumour_segmenter.load(artifact), PIXELS[::2, ::-1]
    np.testing.assert_array_equal(segment(view), Baseline()(view))
    fixed = PIXELS.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(segment(fixed), Baseline()(PIXELS))


@pytest.mark.parametrize(
    "pixels",
    [
        PIXELS.astype(np.float32),
        PIXELS.astype(int),
        PIXELS > 100,
        np.dstack([PIXELS] * 3),
        PIXELS[0],
        PIXELS[:0],
        "scan.png",
        None,
    ],
)
def test_other_arrays_are_refused(artifact, pixels):
    with pytest.raises(ValueError, match=r"expected uint8 \[height, width\]"):
        tumour_segmenter.load(artifact)(pixels)


def test_model_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="nowhere"):
        tumour_segmenter.load(tmp_path / "nowhere.onnx")


def test_several_threads_may_call(artifact):
    segment, masks = tumour_segmenter.load(artifact), []
    threads = [threading.Thread(target=lambda: masks.append(segment(PIXELS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(masks) == 4
    assert all((mask == Baseline()(PIXELS)).all() for mask in masks)


def test_import_is_cheap():
    code = "import tumour_segmenter, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True)
    assert not {"onnxruntime", "numpy", "flask", "PIL"} & set(loaded.split())
