"""More to do than can be done: who is served, who is told to come back, and that it is said."""

import json
import time
from functools import partial

import pytest

from tests.support.serving import ask_raw, body_of, post, request_of, serving, together
from tests.support.slow_model import lasting, minutes, write_slow_artifact
from tumour_segmenter import client

pytestmark = pytest.mark.slow

QUEUE = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_slow_artifact(tmp_path_factory.mktemp("slow") / "model.onnx")


@pytest.fixture(scope="module")
def server(model):
    with serving(model, WORKERS="1", QUEUE=str(QUEUE)) as server:
        yield server


def assert_told_to_come_back(reply):
    assert reply.status == 503
    error = json.loads(reply.body)["error"]
    assert error["code"] == "overloaded"
    assert "come back in" in error["message"]


def test_what_does_not_fit_is_refused_while_the_rest_is_served(server):
    calls = [partial(post, server.url, lasting(128))] * 8
    health = partial(client.ask, server.url, "/healthz/ready", None, 10)
    *replies, ready = together(*calls, health)
    assert ready.status == 200
    refused = [reply for reply in replies if reply.status != 200]
    assert len(refused) <= len(calls) - QUEUE
    assert refused
    for reply in refused:
        assert_told_to_come_back(reply)
    assert post(server.url, lasting(128)).status == 200  # the places are free again


def test_answer_names_when_to_come_back(server):
    request = request_of(body_of(lasting(128)))
    answers = together(*[partial(ask_raw, server.url, request)] * 8)
    assert {status for status, _, _ in answers} == {200, 503}
    for status, headers, _ in answers:
        assert ("retry-after" in headers) == (status == 503)
        assert status == 200 or int(headers["retry-after"]) >= 1


def test_image_that_takes_too_long_is_stopped_and_told(model):
    with serving(model, WORKERS="1", DEADLINE="2") as server:
        start = time.monotonic()
        assert_told_to_come_back(post(server.url, minutes()))
        assert 1 < time.monotonic() - start < 10
        assert post(server.url, lasting(255)).status == 200
