"""The model as one call, and every way in which its file can be wrong."""

import hashlib
import json
import threading

import numpy as np
import pytest

from tests.conftest import TINY_METADATA, write_artifact, write_checksum
from tumour_segmenter.errors import ArtifactError, ContractError
from tumour_segmenter.model_file import read_checked
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline, open_model

PIXELS, _ = phantom(120, 100)
SHAPES = [(1, 1), (1, 33), (33, 1), (31, 65), (426, 400), (991, 400)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["artifact", "baseline", "shipped"])
def test_mask_has_the_image_s_shape_and_two_values(kind, shape, artifact, shipped):
    segmenter = {"artifact": open_model(artifact), "baseline": Baseline(), "shipped": shipped}[kind]
    pixels, _ = phantom(*shape)
    mask = segmenter(pixels)
    assert mask.shape == shape
    assert mask.dtype == np.uint8
    assert np.isin(mask, (0, 255)).all()
    np.testing.assert_array_equal(mask, segmenter(pixels))


def test_baseline_is_the_challenge_s_threshold():
    assert Baseline()(np.array([[0, 49, 50, 255]], np.uint8)).tolist() == [[255, 255, 0, 0]]


def test_artifact_s_mask_and_metadata_come_through(artifact):
    segmenter = open_model(artifact, threads=2)
    np.testing.assert_array_equal(segmenter(PIXELS), Baseline()(PIXELS))
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    assert segmenter.metadata == TINY_METADATA | {"sha256": digest}


def test_threads_that_call_at_once_get_their_own_masks(artifact):
    segmenter = open_model(artifact)
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


POINTS = {
    "sensitive": {"minimum_probability": 0.0, "threshold_factor": 0.5},
    "specific": {"minimum_probability": 0.9, "threshold_factor": 1.0},
}
RAMP = np.array([[0, 10, 40, 60]], np.uint8)


def test_operating_points_are_those_of_the_file(tmp_path):
    metadata = {"operating_points": json.dumps(POINTS), "trained_on": json.dumps(["ab" * 8] * 3)}
    path = write_artifact(tmp_path / "model.onnx", metadata=metadata, minimum=True)
    segmenter = open_model(path)
    assert segmenter.operating_points == POINTS
    assert segmenter.trained_on == ["ab" * 8] * 3
    assert segmenter.metadata["trained_on_images"] == 3
    assert "trained_on" not in segmenter.metadata
    assert segmenter(RAMP).tolist() == [[255, 255, 255, 0]]
    assert segmenter(RAMP, operating_point="sensitive").tolist() == [[255, 255, 255, 255]]
    assert segmenter(RAMP, operating_point="specific").tolist() == [[255, 255, 0, 0]]
    for name in ("other", 3, ["specific"]):
        with pytest.raises(ContractError, match="sensitive, specific") as caught:
            segmenter(RAMP, operating_point=name)
        assert (caught.value.code, caught.value.status) == ("bad_operating_point", 400)


def test_no_operating_point_is_offered_where_the_file_cannot_be_told(tmp_path, artifact):
    metadata = {"operating_points": json.dumps(POINTS)}
    named_only = open_model(write_artifact(tmp_path / "model.onnx", metadata=metadata))
    for segmenter in (named_only, open_model(artifact), Baseline()):
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
        {"operating_points": '{"a": {"minimum_probability": "x", "threshold_factor": 1}}'},
        {"operating_points": '{"a": {"minimum_probability": 2, "threshold_factor": 1}}'},
        {"operating_points": '{"a": {"minimum_probability": 0.5, "threshold_factor": -1}}'},
    ],
)
def test_metadata_that_make_no_sense_are_refused(tmp_path, metadata):
    path = write_artifact(tmp_path / "model.onnx", metadata=metadata)
    assert "metadata that make no sense" in refused(path)


def refused(path) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_model(path)
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
    [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:1] + bytes([b[1] ^ 1]) + b[2:]],
    ids=["truncated", "longer", "altered"],
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


@pytest.mark.parametrize("model", [b"\x08\x0a\x12", b"\x08\x08\x12" * 1000])
def test_file_that_is_no_model_is_refused(tmp_path, model):
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    assert "cannot be run by onnxruntime" in refused(write_checksum(path))


def test_opset_that_this_onnxruntime_cannot_run_is_refused(tmp_path):
    assert "cannot be run by onnxruntime" in refused(
        write_artifact(tmp_path / "model.onnx", opset=99)
    )


def test_probability_is_that_of_each_pixel(artifact, tmp_path):
    segmenter = open_model(artifact)
    assert segmenter.has_probability
    probability = segmenter.probability(RAMP)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, 1 - RAMP / 255, atol=1e-6)
    both = segmenter.run(RAMP, probability=True)
    np.testing.assert_array_equal(both.mask, segmenter(RAMP))
    np.testing.assert_array_equal(both.probability, 255 - RAMP)
    assert segmenter.run(RAMP).probability is None
    without = open_model(write_artifact(tmp_path / "a.onnx", names=("pixels", "mask")))
    for other in (without, Baseline()):
        assert not other.has_probability
        with pytest.raises(ContractError, match="outputs no probability") as caught:
            other.probability(RAMP)
        assert caught.value.code == "no_probability"


def test_a_run_is_ended_by_its_options(artifact):
    segmenter = open_model(artifact)
    options = segmenter.run_options(RAMP)
    options.terminate = True
    with pytest.raises(Exception, match="terminate"):
        segmenter.run(RAMP, options=options)
    assert segmenter.run(RAMP).mask.any()


@pytest.mark.parametrize(
    "content", [b"# README", b"\x80\x02weights", b"\x08\x01\0\0\0\0\0\0{}", b""]
)
def test_what_is_no_onnx_file_is_not_asked_for_a_checksum(tmp_path, content):
    path = tmp_path / "README.md"
    path.write_bytes(content)
    message = refused(path)
    assert "is no ONNX file" in message
    assert "sha256" not in message


@pytest.mark.parametrize("names", [("image", "mask"), ("pixels", "logits")])
def test_other_inputs_and_outputs_are_refused(tmp_path, names):
    message = refused(write_artifact(tmp_path / "model.onnx", names=names))
    assert "expected ('pixels'" in message


def test_checked_bytes_are_those_of_the_file(artifact):
    assert hashlib.sha256(read_checked(artifact)).hexdigest() in (
        artifact.with_name("model.onnx.sha256").read_text()
    )


def test_shipped_model_names_what_made_it(shipped):
    for key in ("name", "version", "source_commit", "data_fingerprint", "calibration", "dice"):
        assert shipped.metadata[key]
