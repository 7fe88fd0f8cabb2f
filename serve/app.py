"""The HTTP API: `create_app()`, and `app` for gunicorn and `flask --app serve.app run`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import (
    HTTPException,
    LengthRequired,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)
from werkzeug.wsgi import get_input_stream

from serve import STARTED, __version__, contract
from serve.contract import ContractError
from serve.page import page
from serve.phantom import phantom
from serve.segmenter import ArtifactError, Baseline, Segmenter
from serve.settings import Settings, SettingsError

# gunicorn's exit code for an app that cannot be loaded: it stops instead of trying for ever.
APP_LOAD_ERROR = 4
OPENAPI = Path(__file__).with_name("openapi.json")
EXPECTED = '{"img": "<base64 PNG>"}'
# Room for the JSON around the image, and for what a client adds that is not looked at.
ENVELOPE = 2**16
# Other processors round otherwise, which flips single pixels at a lesion's edge.
CANARY_TOLERANCE = 0.02
# How much of a refused body is read and dropped, so that the client hears why.
DROPPED = 2**26


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI app, its model opened and tried on a drawn patient, so that it is ready.

    Without `settings` they are read from the environment. Raises `SettingsError` and
    `ArtifactError`. Call it after the fork: a session's threads do not survive one.
    """
    settings = settings or Settings.read()
    segmenter = Segmenter.load(settings.model, settings.threads) if settings.model else Baseline()
    _try_out(segmenter)

    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = contract.max_characters(settings.max_pixels) + ENVELOPE
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.register_blueprint(page)
    app.register_error_handler(ContractError, _contract_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _crash)

    @app.post("/predict")
    def predict() -> Response:
        clock = Stages()
        pixels = contract.decode(_posted_image(), settings.max_pixels)
        clock.done("decode")
        mask = segmenter(pixels)
        clock.done("run")
        response = jsonify(img=contract.encode(mask))
        clock.done("encode")
        response.headers["Server-Timing"] = str(clock)
        return response

    @app.get("/api")
    def about() -> dict[str, Any]:
        return {
            "service": "tumor-segmentation-usecase",
            "uptime": str(timedelta(seconds=time.monotonic() - STARTED)),
            "version": __version__,
            "model": segmenter.metadata,
        }

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
        # An app whose model failed on the drawn patient was never made.
        return {"status": "ready"}

    return app


class Stages:
    """Milliseconds since the last stage, as a `Server-Timing` header."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._stages: list[str] = []

    def done(self, name: str) -> None:
        """Call what went on since the last call `name`."""
        now = time.perf_counter()
        self._stages.append(f"{name};dur={(now - self._last) * 1000:.2f}")
        self._last = now

    def __str__(self) -> str:
        return ", ".join(self._stages)


def _try_out(segmenter: Segmenter | Baseline) -> None:
    """Warm the model up on a drawn patient; raise `ArtifactError` unless it gives the known mask.

    Known is how many pixels the export marked, if the model's metadata say so.
    """
    pixels, _ = phantom()
    try:
        mask = segmenter(pixels)
    except Exception as error:
        raise ArtifactError(f"the model fails on a drawn patient: {error}") from error
    if mask.shape != pixels.shape or mask.dtype != np.uint8 or not np.isin(mask, (0, 255)).all():
        raise ArtifactError(
            f"the model's mask of a drawn patient is {mask.dtype} of shape {mask.shape}, expected "
            f"uint8 0 or 255 of shape {pixels.shape}; export it again"
        )
    found, known = np.count_nonzero(mask), segmenter.metadata.get("canary_tumour_pixels")
    if known is not None and abs(found - int(known)) > CANARY_TOLERANCE * int(known) + 5:
        raise ArtifactError(
            f"the model marks {found} pixels of a drawn patient, but {known} when it was exported; "
            "install the versions in requirements-serve.txt, or export it again"
        )


def _posted_image() -> Any:
    """Return what the body says "img" is; raises `ContractError` or an HTTP error."""
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        raise LengthRequired("the request must tell its Content-Length")
    body = request.get_data(cache=False)
    if request.content_encoding not in (None, "identity"):
        raise ContractError("unsupported_encoding", "the body must be sent uncompressed", 415)
    try:
        # Numbers are not looked at, and an endless one is cheaper as a float.
        document = json.loads(
            body, parse_int=float, parse_constant=_refuse, object_pairs_hook=_object
        )
    except (ValueError, RecursionError) as error:
        if request.mimetype.startswith(("image/", "multipart/")):
            raise ContractError(
                "unsupported_media_type",
                f"the body is {request.mimetype}, expected JSON, {EXPECTED}",
                415,
            ) from error
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ContractError(
            "bad_json", f"the body is not valid JSON ({why}), expected {EXPECTED}"
        ) from error
    if not isinstance(document, dict) or "img" not in document:
        raise ContractError("missing_img", f"the body holds no img, expected {EXPECTED}")
    return document["img"]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands in an object twice")
    return found


def _error(status: int, code: str, message: str) -> Response:
    response = jsonify(error={"code": code, "message": message})
    response.status_code = status
    return response


def _contract_error(error: ContractError) -> Response:
    return _error(error.status, error.code, str(error))


def _http_error(error: HTTPException) -> Response:
    _drop_body()
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
    return response


def _drop_body() -> None:
    """Let the client finish sending: it does not listen before, and would see a broken pipe."""
    with contextlib.suppress(Exception):  # the answer is an error already
        body, left = get_input_stream(request.environ), DROPPED
        while left > 0 and (piece := body.read(2**16)):
            left -= len(piece)


def _crash(error: Exception) -> Response:
    current_app.logger.exception("%s %s failed", request.method, request.path, exc_info=error)
    return _error(500, "internal_error", "the server failed on this request; its log says why")


def __getattr__(name: str) -> Flask:
    # Made when gunicorn asks for it, which it does in each worker, and not by a mere import.
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        globals()["app"] = create_app()
    except (SettingsError, ArtifactError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(APP_LOAD_ERROR)
    return globals()["app"]
