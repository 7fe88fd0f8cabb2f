"""Who is let in, and what browsers are told to be careful about."""

from __future__ import annotations

import hmac
from contextlib import suppress

from flask import Flask, Response, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

# Endpoints for everyone: the page and its files, who answers, and whether. All else, also what is
# added some day and what is not there, asks for the key.
OPEN = {
    "about",
    "openapi",
    "live",
    "ready",
    "page.index",
    "page.static",
    "page.example",
    "page.example_truth",
}
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def init_app(app: Flask, key: str) -> None:
    """Ask for `key` unless it is empty or the endpoint is open; send security headers always."""
    forms = _forms(key)

    @app.before_request
    def ask() -> None:
        if key and request.endpoint not in OPEN and not _has(forms):
            raise Unauthorized(
                "send the server's key as Authorization: Bearer, or as X-API-Key",
                www_authenticate=WWWAuthenticate("bearer"),
            )

    @app.after_request
    def warn(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint not in OPEN:  # masks and figures are nobody else's, and soon old
            response.headers["Cache-Control"] = "no-store"
        return response


def _forms(key: str) -> list[bytes]:
    """Return the bytes that a client may send for `key`: HTTP does not say how letters are sent."""
    forms = [key.encode("utf-8", "surrogateescape")]  # bytes of the environment, whatever they are
    with suppress(UnicodeEncodeError):
        forms.append(key.encode("latin-1"))
    return forms


def _has(forms: list[bytes]) -> bool:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    sent = given.strip().encode("latin-1", "replace")  # the bytes as they came
    # The time that a comparison takes tells nothing about the key.
    return any(hmac.compare_digest(sent, form) for form in forms)
