"""The HTTP API: `create_app()`, and `app` for gunicorn and `flask --app serve.app run`."""

from __future__ import annotations

import functools
import json
import os
import shlex
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    Unauthorized,
)

from tumour_segmenter import __version__, contract
from tumour_segmenter.contract import ContractError
from tumour_segmenter.errors import ArtifactError, SettingsError
from tumour_segmenter.measure import BODY_BELOW, share_warning
from tumour_segmenter.model_file import PROJECT, model_path, read_checked
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline, Segmenter, check_operating_point, open_model

from . import STARTED, guard, loop, metrics, record, stopping
from .body import BUDGET, Budget, Intake
from .page import page
from .queue import Overloaded, Queue
from .settings import Settings
from .speaker import Speaker

# gunicorn's exit code for an app that cannot be loaded: it stops instead of trying for ever.
APP_LOAD_ERROR = 4
# Seconds in which a worker that fails with others is told to stop, or killed if it was told too
# early to hear it; one that fails alone is not.
OTHERS_TELL = 30
configured = False  # whether gunicorn read its configuration
speaker = Speaker()
OPENAPI = Path(__file__).with_name("openapi.json")
# Characters of base64 whose decoding would hold up the loop.
LARGE = 2**21
# Other processors round otherwise, which flips single pixels at a lesion's edge.
CANARY_TOLERANCE = 0.02


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
    segmenter = open_model(settings.model, settings.threads, model)
    _try_out(segmenter)
    queue = Queue(settings.queue)
    budget = Budget(max(BUDGET // settings.workers, settings.max_body))
    intake = Intake(queue, budget, settings.deadline)

    app = Flask(__name__, static_folder=None)
    app.extensions["queue"] = queue
    app.extensions["intake"] = intake
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.config["MAX_PIXELS"] = settings.max_pixels
    trained_on_hashes = frozenset(segmenter.trained_on)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.register_blueprint(page)
    record.keep(app)
    guard.protect(app, settings.api_key)
    app.after_request(loop.close_unread)
    if settings.metrics:
        metrics.count(app, queue, segmenter.metadata)
    app.register_error_handler(ContractError, _contract_error)
    app.register_error_handler(Overloaded, _overloaded)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _crash)

    def decode(img: Any, until: float) -> contract.GreyImage:
        if isinstance(img, str) and len(img) > LARGE:  # others need not wait for it
            return loop.apart(until, contract.decode_image, img, settings.max_pixels)
        return contract.decode_image(img, settings.max_pixels)

    def run(pixels: np.ndarray, until: float, operating_point: str | None) -> np.ndarray:
        options = segmenter.run_options(pixels)
        clock = threading.Timer(until - time.monotonic(), setattr, (options, "terminate", True))
        clock.start()
        try:
            return loop.apart(until, segmenter.run, pixels, operating_point, False, options).mask
        except loop.Hung as error:
            queue.close()
            raise Overloaded("the model hangs") from error
        except Exception as error:  # onnxruntime's exceptions have no common base
            if options and options.terminate:
                raise Overloaded("the model did not finish in time") from error
            raise
        finally:
            clock.cancel()

    @app.post("/predict")
    def predict() -> Response:
        until = record.began() + settings.deadline
        stages = record.Stages()
        with intake.image(stages) as (asked, slot):
            check_operating_point(segmenter.operating_points, asked.operating_point)
            image = decode(asked.img, until)
            pixels = image.pixels
            record.note(height=pixels.shape[0], width=pixels.shape[1])
            stages.done("decode")
            with slot.model(pixels.size):
                stages.done("wait")
                mask = run(pixels, until, asked.operating_point)
            stages.done("run")
            response = jsonify(img=contract.encode(mask))
            stages.done("encode")
        response.headers["Server-Timing"] = str(stages)
        body_pixels = np.count_nonzero(pixels < BODY_BELOW)
        doubts = [*image.notes, share_warning(np.count_nonzero(mask), body_pixels)]
        if warning := " | ".join(filter(None, doubts)):
            record.note(warning=warning)
            response.headers["X-Warning"] = warning.encode("ascii", "replace").decode()
        if trained_on_hashes and contract.image_hash(pixels) in trained_on_hashes:
            response.headers["X-Trained-On"] = "true"
        return response

    @app.get("/api")
    def about() -> dict[str, Any]:
        return {
            "service": "tumor-segmentation-usecase",
            "uptime": str(timedelta(seconds=time.monotonic() - STARTED)),
            "version": __version__,
            "model": segmenter.metadata,
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
    def ready() -> Response | dict[str, str]:
        if stopping.asked():
            return _error(503, "stopping", "the server is about to stop; ask another one")
        # An app whose model failed on the phantom was never made.
        return {"status": "ready"}

    return app


def _try_out(segmenter: Segmenter | Baseline) -> None:
    """Warm the model up on the synthetic phantom, whose mask is known; raises `ArtifactError`.

    Known is how many pixels the export marked, if the model's metadata say so.
    """
    pixels, _ = phantom()
    try:
        mask = segmenter(pixels)
    except Exception as error:
        raise ArtifactError(f"the model fails on the synthetic phantom: {error}") from error
    if mask.shape != pixels.shape or mask.dtype != np.uint8 or not np.isin(mask, (0, 255)).all():
        raise ArtifactError(
            f"the model's mask of the synthetic phantom is {mask.dtype} of shape {mask.shape}, "
            f"expected uint8 0 or 255 of shape {pixels.shape}; export it again"
        )
    found, known = np.count_nonzero(mask), segmenter.metadata.get("canary_tumour_pixels")
    if known is not None and abs(found - int(known)) > CANARY_TOLERANCE * int(known) + 5:
        raise ArtifactError(
            f"the model marks {found} pixels of the synthetic phantom, but {known} when it was "
            "exported; install the versions in requirements-serve.txt, or export it again"
        )


def _error(status: int, code: str, message: str) -> Response:
    response = jsonify(error={"code": code, "message": message})
    response.status_code = status
    return response


def _contract_error(error: ContractError) -> Response:
    return _error(error.status, error.code, str(error))


def _overloaded(error: Overloaded) -> Response:
    response = _error(503, "overloaded", str(error))
    response.headers["Retry-After"] = str(error.retry_after)
    return response


def _http_error(error: HTTPException) -> Response:
    allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    if isinstance(error, NotFound):
        message = f"there is nothing at {request.path}; see /openapi.json for what there is"
    elif isinstance(error, MethodNotAllowed):
        message = f"{request.path} does not take {request.method}, only {allowed}"
    elif isinstance(error, RequestEntityTooLarge):
        message = f"the body is too large, at most {request.max_content_length:,} bytes are taken"
    else:
        message = error.description or error.name
    response = _error(error.code or 500, error.name.lower().replace(" ", "_"), message)
    if allowed:
        response.headers["Allow"] = allowed
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _crash(error: Exception) -> Response:
    current_app.logger.exception("%s %s failed", request.method, request.path, exc_info=error)
    return _error(500, "internal_error", "the server failed on this request; its log says why")


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
    except (SettingsError, ArtifactError) as error:
        if not speaker.first():
            _wait_for_stop()
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(APP_LOAD_ERROR)


def _configuration() -> str:
    """Return what gunicorn's option -c takes: the project's file, or the installed module."""
    file = PROJECT / "gunicorn.conf.py"
    return shlex.quote(str(file)) if file.is_file() else f"python:{__package__}.gunicorn_config"


def _wait_for_stop() -> None:
    """Let the worker that failed first end the server: gunicorn fails if another does meanwhile."""
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    if getattr(worker, "alive", True):  # else it was told already
        loop.plain_sleep(OTHERS_TELL)
    else:
        os._exit(0)
