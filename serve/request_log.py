"""One line of JSON for each request, on standard output. What was sent is never in it."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from flask import Flask, Response, g, request
from gunicorn.glogging import Logger

LONGEST_PATH = 200
GIVEN_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
FACTS = "serve.log"  # what a request's environment holds for its line


class RequestLog(Logger):
    """gunicorn's log of requests; that of the server itself stays as it is."""

    def access(self, resp, req, environ, request_time) -> None:
        """Write down a request that was answered, with what the app noted about it."""
        known = {"id": None} | environ.get(FACTS, {})
        self._write(
            id=known.pop("id"),
            client=client_address(environ, self.cfg.forwarded_allow_ips),
            method=environ["REQUEST_METHOD"],
            path=environ.get("PATH_INFO", "")[:LONGEST_PATH],
            status=int(str(resp.status).split()[0]),
            ms=round(request_time.total_seconds() * 1000, 2),
            bytes_in=int(environ.get("CONTENT_LENGTH") or 0),
            bytes_out=resp.sent,
            **known,
        )

    def refused(self, address, status: int, why: str) -> None:
        """Write down what did not become a request."""
        client = address[0] if isinstance(address, tuple) else None
        self._write(id=None, client=client, method=None, path=None, status=status, refused=why)

    def _write(self, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.access_log.info("%s", json.dumps({"time": now} | facts))


def init_app(app: Flask) -> None:
    """Give each request to `app` an id, the client's own if it sent one, and tell the client.

    `g.began` is when its head was there, on the clock of `time.monotonic`.
    """

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        given = request.headers.get("X-Request-ID", "")
        g.id = given if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        note(id=g.id)

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.id
        return response


def note(**facts: object) -> None:
    """Remember `facts`, values of JSON, for this request's line in the log."""
    request.environ.setdefault(FACTS, {}).update(facts)


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


def client_address(environ: Mapping[str, str], trusted: Collection[str]) -> str | None:
    """Return who sent a request: behind a `trusted` proxy what it says in X-Forwarded-For.

    trusted: gunicorn's forwarded_allow_ips: addresses, networks, or "*" for every peer. Anyone can
    send that header, so it counts only as far as trusted proxies added to it, from the right.
    """
    client = environ.get("REMOTE_ADDR")
    hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while hops and _is_trusted(client, trusted):
        try:
            client = str(ipaddress.ip_address(hops.pop().strip()))
        except ValueError:
            break
        if "*" in trusted:  # the nearest proxy is known to be ours, those before it are not
            break
    return client


def _is_trusted(client: str | None, trusted: Collection[str]) -> bool:
    if not client or "*" in trusted:  # none: over a Unix socket
        return True
    with suppress(ValueError):
        address = ipaddress.ip_address(client)
        address = getattr(address, "ipv4_mapped", None) or address  # of a socket that speaks both
        return any(address in ipaddress.ip_network(network) for network in trusted)
    return False
