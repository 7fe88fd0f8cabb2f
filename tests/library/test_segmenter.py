"""The model as one call, and every way in which its file can be wrong."""

import hashlib
import json
import threading
import time

import numpy as np
import pytest

from tests.conftest import SHIPPED, TINY_METADATA, write_artifact, write_checksum
from tumour_segmenter.contract import ContractError
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import ArtifactError, Baseline, Segmenter, read_checked

PIXELS, _ = phantom(120, 100)
SHAPES = [(1, 1), (1, 33), (33, 1), (31, 65), (426, 400), (991, 400)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["artifact", "baseline", "shipped"])
def test_mask_has_the_image_s_shape_and_two_values(kind, shape, artifact):
    segmenter = {
        "artifact": lambda: Segmenter.load(artifact),
        "baseline": Baseline,
        "shipped": lambda: Segmenter.load(SHIPPED),
    }[kind]()
    pixels, _ = phantom(*shape)
    mask = segmenter(pixels)
    assert mask.shape == shape
    assert mask.dtype == np.uint8
    assert np.isin(mask, (0, 255)).all()
    np.testing.assert_array_equal(mask, segmenter(pixels))


def test_baseline_is_the_challenge_s_threshold():
    assert Baseline()(np.array([[0, 49, 50, 255]], np.uint8)).tolist() == [[255, 255, 0, 0]]


def test_artifact_s_mask_and_metadata_come_through(artifact):
    segmenter = Segmenter.load(artifact, threads=2)
    np.testing.assert_array_equal(segmenter(PIXELS), Baseline()(PIXELS))
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    assert segmenter.metadata == TINY_METADATA | {"sha256": digest}


def test_threads_that_call_at_once_get_their_own_masks(artifact):
    segmenter = Segmenter.load(artifact)
    images = [phantom(60 + i, 50, seed=i)[0] for i in range(8)]
    masks = {}

    def call(i):
        for _ in range(20):
            masks[i] = segmenter(images[i])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, image in enumerate(images):
        np.testing.assert_array_equal(masks[i], Baseline()(image))


POINTS = {"sensitive": {"minimum_probability": 0.0}, "specific": {"minimum_probability": 0.9}}
RAMP = np.array([[0, 10, 40, 60]], np.uint8)


def test_operating_points_are_those_of_the_file(tmp_path):
    metadata = {"operating_points": json.dumps(POINTS), "trained_on": json.dumps(["ab" * 8] * 3)}
    path = write_artifact(tmp_path / "model.onnx", metadata=metadata, minimum=True)
    segmenter = Segmenter.load(path)
    assert segmenter.operating_points == POINTS
    assert segmenter.trained_on == ["ab" * 8] * 3
    assert segmenter.metadata["trained_on_images"] == 3
    assert "trained_on" not in segmenter.metadata
    assert segmenter(RAMP).tolist() == [[255, 255, 255, 0]]
    assert segmenter(RAMP, operating_point="sensitive").tolist() == [[255, 255, 255, 0]]
    assert segmenter(RAMP, operating_point="specific").tolist() == [[255, 255, 0, 0]]
    later = time.monotonic() + 60
    assert segmenter(RAMP, later, "specific").tolist() == [[255, 255, 0, 0]]
    for name in ("other", 3, ["specific"]):
        with pytest.raises(ContractError, match="sensitive, specific") as caught:
            segmenter(RAMP, operating_point=name)
        assert (caught.value.code, caught.value.status) == ("bad_operating_point", 400)


def test_no_operating_point_is_offered_where_the_file_cannot_be_told(tmp_path, artifact):
    metadata = {"operating_points": json.dumps(POINTS)}
    named_only = Segmenter.load(write_artifact(tmp_path / "model.onnx", metadata=metadata))
    for segmenter in (named_only, Segmenter.load(artifact), Baseline()):
        assert segmenter.operating_points == {}
        assert segmenter.trained_on == []
        with pytest.raises(ContractError, match="leave it out"):
            segmenter(RAMP, operating_point="specific")


@pytest.mark.parametrize(
    "metadata",
    [
        {"trained_on": "{}x"},
        {"trained_on": '{"a": 1}'},
        {"operating_points": "[1]"},
        {"operating_points": '{"a": {}}'},
        {"operating_points": '{"a": {"minimum_probability": "x"}}'},
        {"operating_points": '{"a": {"minimum_probability": 2}}'},
    ],
)
def test_metadata_that_make_no_sense_are_refused(tmp_path, metadata):
    path = write_artifact(tmp_path / "model.onnx", metadata=metadata)
    assert "metadata that make no sense" in refused(path)


def refused(path) -> str:
    with pytest.raises(ArtifactError) as caught:
        Segmenter.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.name) in message
    return message


def test_missing_file_names_the_ways_out(tmp_path):
    message = refused(tmp_path / "model.onnx")
    assert "MODEL=baseline" in message
    assert "python -m export" in message


def test_missing_checksum_is_an_error(tmp_path):
    path = write_artifact(tmp_path / "model.onnx")
    path.with_name("model.onnx.sha256").unlink()
    assert "model.onnx.sha256" in refused(path)


@pytest.mark.parametrize(
    "change",
    [lambda b: b[:-1], lambda b: b + b"\0", lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b""],
    ids=["truncated", "longer", "altered", "empty"],
)
def test_file_without_its_checksum_is_refused(tmp_path, change):
    path = write_artifact(tmp_path / "model.onnx")
    path.write_bytes(change(path.read_bytes()))
    assert "checksum" in refused(path)


@pytest.mark.parametrize("checksum", ["", "\n", "not a checksum", "\xff"])
def test_senseless_checksum_file_is_refused(tmp_path, checksum):
    path = write_artifact(tmp_path / "model.onnx")
    path.with_name("model.onnx.sha256").write_text(checksum)
    assert "checksum" in refused(path)


@pytest.mark.parametrize("model", [b"", b"not a model", b"\x08\x08" * 1000])
def test_file_that_is_no_model_is_refused(tmp_path, model):
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    assert "cannot be run by onnxruntime" in refused(write_checksum(path))


def test_opset_that_this_onnxruntime_cannot_run_is_refused(tmp_path):
    assert "cannot be run by onnxruntime" in refused(
        write_artifact(tmp_path / "model.onnx", opset=99)
    )


@pytest.mark.parametrize("names", [("image", "mask"), ("pixels", "logits")])
def test_other_inputs_and_outputs_are_refused(tmp_path, names):
    message = refused(write_artifact(tmp_path / "model.onnx", names=names))
    assert "expected ('pixels'" in message


def test_checked_bytes_are_those_of_the_file(artifact):
    assert hashlib.sha256(read_checked(artifact)).hexdigest() in (
        artifact.with_name("model.onnx.sha256").read_text()
    )


def test_shipped_model_names_what_made_it():
    metadata = Segmenter.load(SHIPPED).metadata
    for key in ("name", "version", "source_commit", "data_fingerprint", "calibration", "dice"):
        assert metadata[key]
