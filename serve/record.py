"""What is remembered of a request until it is written to the log: id, size, stages."""

from __future__ import annotations

import re
import secrets
import time

from flask import Flask, Response, request

GIVEN_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)


def keep(app: Flask) -> None:
    """Give each request to `app` an id, the client's own if it sent one, and tell the client."""

    @app.before_request
    def begin() -> None:
        now = time.monotonic()
        # Only our own worker knows when the first byte came; for others it is now.
        request.environ["serve.began"] = getattr(
            request.environ.get("gunicorn.socket"), "began", now
        )
        given = request.headers.get("X-Request-ID", "")
        note(id=given if GIVEN_ID.fullmatch(given) else secrets.token_hex(8))

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers["X-Request-ID"] = request.environ["serve.log"]["id"]
        return response


def note(**facts: object) -> None:
    """Remember `facts`, values of JSON, for this request's line in the log."""
    request.environ.setdefault("serve.log", {}).update(facts)


def began() -> float:
    """Return when this request began to arrive, on the clock of `time.monotonic`."""
    return request.environ["serve.began"]


class Stages:
    """Milliseconds since the last stage, for the log and as a `Server-Timing` header."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._stages: list[str] = []

    def done(self, name: str) -> None:
        """Call what went on since the last call `name`."""
        now = time.perf_counter()
        took = round((now - self._last) * 1000, 2)
        self._stages.append(f"{name};dur={took:.2f}")
        note(**{f"{name}_ms": took})
        self._last = now

    def __str__(self) -> str:
        return ", ".join(self._stages)
