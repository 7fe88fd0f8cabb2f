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
        request.environ["serve.began"] = time.monotonic()
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
    """Return when the head of this request was there, on the clock of `time.monotonic`."""
    return request.environ["serve.began"]


class Stages:
    """Milliseconds of each stage, for the log and as a `Server-Timing` header."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._ms: dict[str, float] = {}

    def done(self, name: str) -> None:
        """Count what went on since the last call as `name`, which may go on several times."""
        now = time.perf_counter()
        self._ms[name] = self._ms.get(name, 0.0) + (now - self._last) * 1000
        note(**{f"{name}_ms": round(self._ms[name], 2)})
        self._last = now

    def __str__(self) -> str:
        return ", ".join(f"{name};dur={ms:.2f}" for name, ms in self._ms.items())
