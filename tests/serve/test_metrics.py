"""Figures for Prometheus: right over workers, and over those that were replaced."""

import os
import re
import signal
import time
from collections import Counter
from functools import partial
from importlib.util import find_spec

import pytest

from serve import metrics
from serve.app import create_app
from serve.settings import Settings
from tests.support.serving import body_of, post, serving, together
from tests.support.slow_model import lasting, write_slow_artifact
from tumour_segmenter import client, needs
from tumour_segmenter.errors import SettingsError

needs_prometheus = pytest.mark.skipif(
    not find_spec("prometheus_client"), reason="pip install -r requirements-metrics.txt"
)


def figures(url: str) -> dict[str, float]:
    lines = client.ask(url, "/metrics").body.decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_no_figures_unless_asked_for(client):
    assert client.get("/metrics").status_code == 404


@pytest.mark.slow
@needs_prometheus
def test_figures_are_exact_over_workers_and_their_ends(tmp_path):
    model = write_slow_artifact(tmp_path / "model.onnx")
    recycle = {"GUNICORN_CMD_ARGS": "--max-requests 7", "API_KEY": "", "METRICS": "on"}
    with serving(model, WORKERS="2", **recycle) as server:
        for _ in range(10):
            assert {r.status for r in together(*[lambda: post(server.url, lasting(250))] * 4)} == {
                200
            }
        os.kill(server.workers()[0], signal.SIGKILL)
        time.sleep(0.1)
        for _ in range(3):
            assert client.ask(server.url, "/nope").status == 404
        seen = figures(server.url)
    assert seen['segmenter_requests_total{endpoint="predict",status="200"}'] == 40
    assert seen['segmenter_requests_total{endpoint="none",status="404"}'] == 3
    assert seen["segmenter_predict_seconds_count"] == 40
    assert seen["segmenter_in_flight"] == 0
    (model_info,) = [name for name in seen if name.startswith("segmenter_model_info")]
    assert re.search('sha256="[0-9a-f]{64}"', model_info)


@pytest.mark.slow
@needs_prometheus
def test_images_refused_on_admission_are_counted(tmp_path):
    model = write_slow_artifact(tmp_path / "model.onnx")
    with serving(model, WORKERS="1", QUEUE="2", METRICS="on") as server:
        replies = together(*[lambda: post(server.url, lasting(128))] * 12)
        seen = figures(server.url)
    for status in (200, 503):
        name = f'segmenter_requests_total{{endpoint="predict",status="{status}"}}'
        assert seen[name] == [reply.status for reply in replies].count(status) > 0


@pytest.mark.slow
@needs_prometheus
def test_what_the_page_posts_is_counted_by_itself(tmp_path):
    model, body = write_slow_artifact(tmp_path / "model.onnx"), body_of(lasting(128))
    paths = ("/predict", "/label", "/image") * 6
    with serving(model, WORKERS="1", QUEUE="2", METRICS="on") as server:
        asked = [partial(client.ask, server.url, path, body) for path in paths]
        replies = zip(paths, together(*asked), strict=True)
        seen = figures(server.url)
    answered = Counter((path, reply.status) for path, reply in replies)
    assert {503} < {status for _, status in answered}
    for path, endpoint in (
        ("/predict", "predict"),
        ("/label", "page.label"),
        ("/image", "page.image"),
    ):
        for status in (200, 400, 503):
            name = f'segmenter_requests_total{{endpoint="{endpoint}",status="{status}"}}'
            assert seen.get(name, 0) == answered[path, status]


def test_server_says_what_its_figures_need(monkeypatch):
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    with pytest.raises(SettingsError) as refused:
        metrics.open_folder(None)
    assert needs.how_to_install("metrics") in str(refused.value)


def test_setting_is_on_or_off():
    assert not Settings.read({}).metrics
    with pytest.raises(SettingsError, match="METRICS='yes' is neither on nor off"):
        create_app(Settings.read({"METRICS": "yes"}))
