"""Who is let in, and what browsers are told to be careful about."""

from __future__ import annotations

import hmac

from flask import Flask, Response, request
from werkzeug.exceptions import Unauthorized

# What costs work or tells about others; the rest is for everyone.
GUARDED = ("predict", "metrics", "page.label", "page.image", "page.key")
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


def protect(app: Flask, key: str) -> None:
    """Ask for `key` where it matters, unless it is empty; send security headers everywhere."""

    @app.before_request
    def ask() -> None:
        if key and request.endpoint in GUARDED and not _has(key):
            raise Unauthorized("send the server's key as Authorization: Bearer, or as X-API-Key")

    @app.after_request
    def warn(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint in GUARDED:  # masks and figures are nobody else's, and soon old
            response.headers["Cache-Control"] = "no-store"
        return response


def _has(key: str) -> bool:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    # Headers arrive as latin-1; the time that the comparison takes tells nothing about the key.
    return hmac.compare_digest(given.strip().encode("latin-1", "replace"), key.encode())
