"""Figures for Prometheus at /metrics, right over all workers and over those that were replaced.

prometheus_client is needed only where METRICS=on. Each worker counts in files of its own in one
folder, which gunicorn's master makes, and any worker adds all of them up. The files are named by
the worker's number, so that who replaces a worker goes on counting in its files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time

from flask import Flask, Response, g, request

from tumour_segmenter import needs
from tumour_segmenter.errors import SettingsError, UsageError

from .queue import Queue

FOLDER, NUMBER = "PROMETHEUS_MULTIPROC_DIR", "SEGMENTER_WORKER"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 3, 5, 9, 10)


def open_folder(parent: str | None) -> None:
    """Make the folder in `parent` and name it to the workers to come; raises `SettingsError`."""
    # Not imported yet: it looks for the folder when it is.
    try:
        needs.require("metrics", "prometheus_client")
    except UsageError as error:
        raise SettingsError(f"METRICS=on: {error}") from error
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="metrics-", dir=parent)


def close_folder() -> None:
    """Remove what `open_folder` made."""
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def begin(number: int) -> None:
    """Have this process, a worker before it makes its app, count as the worker `number`."""
    os.environ[NUMBER] = str(number)


def forget(number: int) -> None:
    """Take what a worker that ended had in flight out of the sum; what it has counted stays."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(number)


def init_app(app: Flask, queue: Queue, model: dict[str, str | int]) -> None:
    """Count the requests to `app`, and serve the figures. Call it in the worker."""
    if FOLDER not in os.environ:  # another server than ours, such as flask's own
        open_folder(None)
    import prometheus_client as prometheus
    from prometheus_client import multiprocess, values

    number = os.environ.get(NUMBER, "0")
    values.ValueClass = values.MultiProcessValue(lambda: number)

    ours = prometheus.CollectorRegistry()
    requests = prometheus.Counter(
        "segmenter_requests", "Requests answered", ["endpoint", "status"], registry=ours
    )
    seconds = prometheus.Histogram(
        "segmenter_predict_seconds",
        "From the head of an image's request until its mask was ready",
        registry=ours,
        buckets=SECONDS,
    )
    in_flight = prometheus.Gauge(
        "segmenter_in_flight", "Images in flight now", registry=ours, multiprocess_mode="livesum"
    )
    names = ["name", "version", "sha256"]
    info = prometheus.Gauge(
        "segmenter_model_info",
        "The model that answers",
        names,
        registry=ours,
        multiprocess_mode="livemax",
    )
    info.labels(*(model.get(name, "") for name in names)).set(1)

    @app.after_request
    def end(response: Response) -> Response:
        requests.labels(request.endpoint or "none", response.status_code).inc()
        if request.endpoint == "predict" and response.status_code == 200:
            seconds.observe(time.monotonic() - g.began)
        return response

    queue.watchers.append(in_flight.set)

    @app.get("/metrics", endpoint="metrics")
    def metrics() -> Response:
        everyone = prometheus.CollectorRegistry()
        multiprocess.MultiProcessCollector(everyone)
        return Response(
            prometheus.generate_latest(everyone), content_type=prometheus.CONTENT_TYPE_LATEST
        )
