"""The HTTP API: `create_app()`, and `app` for gunicorn and `flask --app serve.app run`."""

from __future__ import annotations

import base64
import functools
import json
import os
import shlex
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask, Response, jsonify

from tumour_segmenter import __version__, contract
from tumour_segmenter.errors import ArtifactError, SettingsError
from tumour_segmenter.measure import BODY_BELOW, share_warning
from tumour_segmenter.model_file import PROJECT, model_path, read_checked
from tumour_segmenter.segmenter import Prediction, check_operating_point

from . import STARTED, canary, errors, guard, metrics, model_run, request_log, stopping
from .body import BUDGET, Budget, Intake
from .page import page
from .queue import Queue
from .settings import Settings
from .threads import run_in_thread, under_gevent

# gunicorn's exit code for an app that cannot be loaded: it stops instead of trying for ever.
APP_LOAD_ERROR = 4
# Seconds after which a worker that could not open the model ends, so that another one tries.
TRY_AGAIN = 1
configured = False  # whether gunicorn read its configuration
OPENAPI = Path(__file__).with_name("openapi.json")


@functools.cache
def served_model() -> bytes | None:
    """Return the content of the model file that the settings name, read once; None: baseline.

    gunicorn's master asks before it forks. So all its workers, also those that replace others
    later on, have the same model, whatever happens to the file meanwhile. Raises `SettingsError`
    and `ArtifactError`.
    """
    path = model_path(Settings.read().model)
    return path and read_checked(path)


def create_app(settings: Settings | None = None, model: bytes | None = None) -> Flask:
    """Return the WSGI app, its model opened and tried on a synthetic phantom, so that it is ready.

    Without `settings` they are read from the environment, without `model` it is read from its
    file. Raises `SettingsError` and `ArtifactError`. Call it after the fork: a session's threads do
    not survive one.
    """
    settings = settings or Settings.read()
    segmenter = canary.open_tried(settings, model)
    queue = Queue(settings.queue)
    budget = Budget(max(BUDGET // settings.workers, settings.max_body))
    intake = Intake(queue, budget, settings.deadline)

    app = Flask(__name__, static_folder=None)
    app.extensions |= {"queue": queue, "intake": intake, "deadline": settings.deadline}
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.config["MAX_PIXELS"] = settings.max_pixels
    trained_on_hashes = frozenset(segmenter.trained_on)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.register_blueprint(page)
    request_log.init_app(app)
    guard.init_app(app, settings.api_key)
    errors.init_app(app)
    if under_gevent():
        from .worker import close_in_time

        app.after_request(close_in_time)
    if settings.metrics:
        metrics.init_app(app, queue, segmenter.metadata)

    @app.post("/predict")
    def predict() -> Response:
        stages = request_log.Stages()
        with intake.image(stages) as (asked, slot):
            check_operating_point(segmenter.operating_points, asked.operating_point)
            image = run_in_thread(slot.until, contract.decode_image, asked.img, settings.max_pixels)
            height, width = image.pixels.shape
            request_log.note(height=height, width=width)
            stages.done("decode")
            with slot.model(image.pixels.size):
                stages.done("wait")
                prediction = model_run.run(
                    segmenter,
                    queue,
                    image.pixels,
                    slot.until,
                    operating_point=asked.operating_point,
                    probability=asked.probability,
                )
            stages.done("run")
            response = run_in_thread(slot.until, answer, image, prediction)
            stages.done("encode")
        response.headers["Server-Timing"] = str(stages)
        if warning := response.headers.get("X-Warning"):
            request_log.note(warning=warning)
        return response

    def answer(image: contract.GreyImage, prediction: Prediction) -> Response:
        with app.app_context():
            pictures = {"img": contract.encode(prediction.mask)}
            if prediction.probability is not None:
                png = contract.encode_grey_png(prediction.probability)
                pictures["probability"] = base64.b64encode(png).decode()
            response = jsonify(pictures)
        body_pixels = np.count_nonzero(image.pixels < BODY_BELOW)
        doubts = [*image.notes, share_warning(np.count_nonzero(prediction.mask), body_pixels)]
        if warning := " | ".join(filter(None, doubts)):
            response.headers["X-Warning"] = warning.encode("ascii", "replace").decode()
        if trained_on_hashes and contract.image_hash(image.pixels) in trained_on_hashes:
            response.headers["X-Trained-On"] = "true"
        return response

    @app.get("/api")
    def about() -> dict[str, Any]:
        return {
            "service": "tumor-segmentation-usecase",
            "uptime": str(timedelta(seconds=time.monotonic() - STARTED)),
            "version": __version__,
            "model": _described(segmenter.metadata),
            "operating_points": segmenter.operating_points,
        }

    @app.get("/api/trained_on")
    def trained_on() -> dict[str, list[str]]:
        return {"hashes": segmenter.trained_on}

    @app.get("/openapi.json")
    def openapi() -> dict[str, Any]:
        description = json.loads(OPENAPI.read_text(encoding="utf-8"))
        description["info"]["version"] = __version__
        return description

    @app.get("/healthz/live")
    def live() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/healthz/ready")
    def ready() -> dict[str, str]:
        if stopping.asked():
            raise errors.Stopping
        # An app whose model failed on the phantom was never made.
        return {"status": "ready"}

    return app


def _described(metadata: dict[str, str | int]) -> dict[str, Any]:
    """Return what a model says about itself, its lists and objects as such.

    The operating points stand beside it.
    """
    return {
        key: json.loads(text) if str(text).startswith(("{", "[")) else text
        for key, text in metadata.items()
        if key != "operating_points"
    }


def __getattr__(name: str) -> Flask:
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return _app(os.getpid())


@functools.cache
def _app(pid: int) -> Flask:
    """Make the app when it is asked for, not by a mere import, and in each process anew."""
    try:
        if "gunicorn.arbiter" in sys.modules and not configured:
            raise SettingsError(
                "gunicorn was started without its configuration; start it with "
                f"gunicorn -c {_configuration()} {__name__}:app"
            )
        return create_app(model=served_model())
    except (SettingsError, ArtifactError, MemoryError) as error:
        print(f"error: {str(error) or 'too little memory'}", file=sys.stderr, flush=True)
        if not configured:
            sys.exit(APP_LOAD_ERROR)
        # The master has tried the same model, so what is missing now may be there again.
        time.sleep(TRY_AGAIN)
        sys.exit(1)


def _configuration() -> str:
    """Return what gunicorn's option -c takes: the project's file, or the installed module."""
    file = PROJECT / "gunicorn.conf.py"
    return shlex.quote(str(file)) if file.is_file() else f"python:{__package__}.gunicorn_config"
