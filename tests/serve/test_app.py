"""The API as a client sees it, without a network."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

import tumour_segmenter
from serve import threads
from serve.app import create_app
from serve.settings import Settings
from tests.conftest import PROJECT, TINY_METADATA, write_artifact
from tumour_segmenter.contract import decode, encode
from tumour_segmenter.errors import ArtifactError
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline

PIXELS, _ = phantom(120, 100)
IMG = encode(PIXELS)


def error_of(response) -> tuple[int, str, str]:
    """Return status, code and message of an answer that must have the one shape of error."""
    assert response.is_json
    assert list(response.json) == ["error"]
    assert sorted(response.json["error"]) == ["code", "message"]
    code, message = response.json["error"]["code"], response.json["error"]["message"]
    assert re.fullmatch("[a-z0-9_]+", code)
    assert 10 < len(message) < 300
    assert "\n" not in message
    return response.status_code, code, message


# What the challenge asks for


def test_predict_answers_with_the_model_s_mask(client):
    response = client.post("/predict", json={"img": IMG})
    assert response.status_code == 200
    assert list(response.json) == ["img"]
    np.testing.assert_array_equal(decode(response.json["img"]), Baseline()(PIXELS))


def test_answer_is_the_challenge_s_and_nothing_else(client):
    plain = client.post("/predict", json={"img": IMG})
    assert plain.data == b'{"img":"' + encode(Baseline()(PIXELS)).encode() + b'"}\n'
    assert client.post("/predict", json={"img": IMG, "probability": False}).data == plain.data


def test_probability_comes_beside_the_mask_where_it_is_asked_for(client):
    plain = client.post("/predict", json={"img": IMG})
    both = client.post("/predict", json={"img": IMG, "probability": True})
    assert list(both.json) == ["img", "probability"]
    assert both.json["img"] == plain.json["img"]
    with Image.open(io.BytesIO(base64.b64decode(both.json["probability"]))) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(picture), 255 - PIXELS)  # the tiny model's own


@pytest.mark.parametrize("bad", [None, 0, 1, "true", "", [], {}, [True]])
def test_probability_is_asked_for_by_true_or_false(client, bad):
    response = client.post("/predict", json={"img": IMG, "probability": bad})
    assert error_of(response)[:2] == (400, "bad_probability")


def test_server_timing_names_the_stages(client):
    timing = client.post("/predict", json={"img": IMG}).headers["Server-Timing"]
    assert re.fullmatch(
        ", ".join(rf"{s};dur=[\d.]+" for s in ["read", "wait", "decode", "run", "encode"]), timing
    )


def test_api_says_who_answers(client, artifact):
    about = client.get("/api").json
    assert about["service"] == "tumor-segmentation-usecase"
    assert re.fullmatch(r"(\d+ days?, )?\d+:\d\d:\d\d(\.\d+)?", about["uptime"])
    assert about["version"] == tumour_segmenter.__version__
    assert about["model"] == TINY_METADATA | {"sha256": sha256(artifact.read_bytes()).hexdigest()}


def test_operating_point_is_the_one_asked_for(tmp_path):
    points = {"specific": {"minimum_probability": 0.9, "dice": 0.5}}
    metadata = {
        "operating_points": json.dumps(points),
        "trained_on": json.dumps(["0" * 16]),
        "folds": "[0, 1]",
        "opset": "17",
    }
    path = write_artifact(tmp_path / "model.onnx", metadata=metadata, minimum=True)
    client = create_app(Settings.read({"MODEL": os.fspath(path)})).test_client()
    about = client.get("/api").json
    assert about["operating_points"] == points
    assert about["model"]["trained_on_images"] == 1
    assert "trained_on" not in about["model"]
    assert "operating_points" not in about["model"]  # told once
    assert (about["model"]["folds"], about["model"]["opset"]) == ([0, 1], "17")
    assert client.get("/api/trained_on").json == {"hashes": ["0" * 16]}

    def tumour(**asked) -> int:
        response = client.post("/predict", json={"img": IMG, **asked})
        assert response.status_code == 200
        return np.count_nonzero(decode(response.json["img"]))

    default = tumour()
    assert tumour(operating_point=None) == default
    assert 0 < tumour(operating_point="specific") < default
    for bad in ("other", "", 3, ["specific"], {}):
        response = client.post("/predict", json={"img": IMG, "operating_point": bad})
        assert error_of(response)[:2] == (400, "bad_operating_point")


def test_model_without_operating_points_says_so(client):
    assert client.get("/api").json["operating_points"] == {}
    assert client.get("/api/trained_on").json == {"hashes": []}
    response = client.post("/predict", json={"img": IMG, "operating_point": "balanced"})
    status, code, message = error_of(response)
    assert (status, code) == (400, "bad_operating_point")
    assert "leave it out" in message


def test_baseline_is_served_without_a_file():
    client = create_app(Settings.read({"MODEL": "baseline"})).test_client()
    response = client.post("/predict", json={"img": IMG})
    np.testing.assert_array_equal(decode(response.json["img"]), Baseline()(PIXELS))
    assert client.get("/api").json["model"]["name"] == "baseline"
    response = client.post("/predict", json={"img": IMG, "probability": True})
    assert error_of(response)[:2] == (400, "no_probability")


def test_shipped_model_is_served_by_default():
    client = create_app(Settings.read({})).test_client()
    response = client.post("/predict", json={"img": IMG})
    assert decode(response.json["img"]).shape == PIXELS.shape
    assert client.get("/api").json["model"]["dice"]


def test_health(client):
    assert client.get("/healthz/live").json == {"status": "alive"}
    assert client.get("/healthz/ready").json == {"status": "ready"}


def test_model_that_gives_no_mask_never_becomes_ready(tmp_path):
    path = write_artifact(tmp_path / "model.onnx", highest=1)
    with pytest.raises(ArtifactError, match="synthetic phantom"):
        create_app(Settings.read({"MODEL": os.fspath(path)}))


def test_model_must_mark_what_it_marked_when_it_was_exported(tmp_path):
    canary, _ = phantom()
    known = np.count_nonzero(Baseline()(canary))
    for pixels, fits in [(known, True), (known + 5, True), (0, False), (known * 2, False)]:
        metadata = {"canary_tumour_pixels": str(pixels)}
        path = write_artifact(tmp_path / "model.onnx", metadata=metadata)
        settings = Settings.read({"MODEL": os.fspath(path)})
        if fits:
            create_app(settings)
        else:
            with pytest.raises(ArtifactError, match=f"marks {known} pixels .* but {pixels} when"):
                create_app(settings)


# What is understood


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded",
    ],
)
def test_content_type_does_not_matter_where_the_body_is_json(client, content_type):
    body = json.dumps({"img": IMG})
    assert client.post("/predict", data=body, content_type=content_type).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"id": 7, "img": IMG, "meta": {"a": [1, None]}}),
        '{"n": ' + "9" * 10_000 + ', "img": "' + IMG + '"}',
        f' \r\n\t{{"img": "{IMG}"}}\n',
        "\ufeff" + json.dumps({"img": IMG}),
        json.dumps({"img": IMG}).encode("utf-16"),
        json.dumps({"img": "data:image/png;base64," + IMG}),
        json.dumps({"img": IMG}).replace("/", "\\/"),
    ],
    ids=["other keys", "long number", "white space", "BOM", "UTF-16", "data URL", "escapes"],
)
def test_body_with_one_sensible_meaning_is_understood(client, body):
    response = client.post("/predict", data=body)
    assert response.status_code == 200
    assert decode(response.json["img"]).shape == PIXELS.shape


def test_slash_at_the_end_is_forgiven(client):
    assert client.post("/predict/", json={"img": IMG}).status_code == 200


# What is refused


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"img",
        b"{",
        b'{"img"}',
        b'{"img": }',
        b'{"img": "abc}',
        b'{"img": "abc",}',
        b'{"img": "a\nb"}',
        b'{"img": "abc"} {}',
        b"{'img': 'abc'}",
        b'{"img": NaN}',
        b'{"img": "abc", "n": -Infinity}',
        b'{"img": "abc", "img": "abc"}',
        b'{"a": {"b": 1, "b": 2}, "img": "abc"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"img": "\xff\xfe\xfd"}',
        b"\xff\xfe{",
        b"\0\0\0\0",
        b"\x89PNG\r\n\x1a\n",
        b"img=" + IMG.encode(),
    ],
)
def test_broken_json_is_refused(client, body):
    status, code, message = error_of(client.post("/predict", data=body))
    assert (status, code) == (400, "bad_json")
    assert "not valid JSON" in message


@pytest.mark.parametrize(
    "body", ["null", "1", '"img"', "[]", "{}", '{"IMG": "abc"}', '[{"img":1}]']
)
def test_json_without_img_is_refused(client, body):
    status, code, message = error_of(client.post("/predict", data=body))
    assert (status, code) == (400, "missing_img")
    assert '{"img":' in message


@pytest.mark.parametrize(
    ("img", "expected"),
    [
        (None, "bad_image_type"),
        (3, "bad_image_type"),
        ([IMG], "bad_image_type"),
        ({"data": IMG}, "bad_image_type"),
        ("", "not_a_png"),
        ("hello", "bad_base64"),
        ("\ud800", "bad_base64"),
        ("/9j/4AAQSkZJRg==", "not_a_png"),
        (IMG[: len(IMG) // 8 * 4], "broken_png"),
    ],
)
def test_what_is_no_image_is_refused(client, img, expected):
    status, code, _ = error_of(client.post("/predict", json={"img": img}))
    assert (status, code) == (400, expected)


def test_image_over_the_limit_is_refused(artifact):
    settings = Settings.read({"MODEL": os.fspath(artifact), "MAX_PIXELS": "11999"})
    client = create_app(settings).test_client()
    status, code, message = error_of(client.post("/predict", json={"img": IMG}))
    assert (status, code) == (413, "image_too_large")
    assert "100×120" in message


def test_body_over_the_limit_is_not_read(client):
    response = client.post("/predict", environ_overrides={"CONTENT_LENGTH": str(10**12)})
    status, code, message = error_of(response)
    assert (status, code) == (413, "request_entity_too_large")
    assert "17,114,112 bytes" in message


def test_body_of_unknown_length_is_refused(client):
    response = client.post("/predict", headers={"Transfer-Encoding": "chunked"})
    status, code, message = error_of(response)
    assert (status, code) == (411, "length_required")
    assert "Content-Length" in message


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=x"])
def test_other_bodies_are_told_what_is_expected(client, content_type):
    response = client.post("/predict", data=b"\x89PNG", content_type=content_type)
    status, code, message = error_of(response)
    assert (status, code) == (415, "unsupported_media_type")
    assert "JSON" in message


def test_compressed_body_is_refused(client):
    response = client.post("/predict", data=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert error_of(response)[:2] == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "path", ["/nope", "/predict/x", "/static/x", "/examples/9.png", "/%00", "/x//y"]
)
def test_unknown_path(client, path):
    assert error_of(client.get(path))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "OPTIONS, POST"),
        ("DELETE", "/predict", "OPTIONS, POST"),
        ("POST", "/api", "GET, HEAD, OPTIONS"),
        ("POST", "/healthz/ready", "GET, HEAD, OPTIONS"),
    ],
)
def test_other_methods(client, method, path, allowed):
    response = client.open(path, method=method)
    status, code, message = error_of(response)
    assert (status, code) == (405, "method_not_allowed")
    assert response.headers["Allow"] == allowed
    assert allowed in message


def test_crash_is_answered_in_the_same_shape_and_logged(app, monkeypatch, caplog):
    def explode(*_):
        raise RuntimeError("the secret")

    monkeypatch.setattr("tumour_segmenter.contract.encode", explode)
    response = app.test_client().post("/predict", json={"img": IMG})
    status, code, message = error_of(response)
    assert (status, code) == (500, "internal_error")
    assert "secret" not in message
    assert "the secret" in caplog.text


# The description and the package


def test_openapi_describes_every_route(app):
    described = app.test_client().get("/openapi.json").json
    assert described["info"]["version"] == tumour_segmenter.__version__
    routes = {
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if not rule.endpoint.startswith("page.")  # for people
    }
    assert routes == {
        (path, method) for path, item in described["paths"].items() for method in item
    }


@pytest.mark.parametrize(
    "module", ["serve.app", "tumour_segmenter.contract", "tumour_segmenter.segmenter"]
)
def test_serving_never_loads_what_only_training_needs(module):
    code = f"import {module}, sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert "tumour_segmenter" in loaded
    assert not loaded & {"torch", "onnx", "train", "export", "benchmarks", "matplotlib"}


def test_what_takes_long_is_done_in_threads(client, monkeypatch):
    """On gevent's loop it would hold up everybody; an example is drawn in 0.3 s."""
    done = []

    def run_in_thread(until, function, *arguments):
        done.append(function.__name__)
        return threads.run_in_thread(until, function, *arguments)

    monkeypatch.setattr("serve.app.run_in_thread", run_in_thread)
    monkeypatch.setattr("serve.page.run_in_thread", run_in_thread)
    for path in ("/predict", "/image", "/label"):
        client.post(path, json={"img": IMG})
    client.get("/examples/1.png")
    assert done == ["decode_image", "answer", "<lambda>", "read", "_draw"]
