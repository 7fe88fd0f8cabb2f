"""The body of a request -> what it calls the image, at a cost that is known beforehand."""

from __future__ import annotations

import json
from typing import Any

from flask import request
from werkzeug.exceptions import LengthRequired

from serve.contract import ContractError

EXPECTED = '{"img": "<base64 PNG>"}'
# An image is a single value, however large; many small ones would take many times their size.
MOST_VALUES = 10_000
# A character that is not ASCII can make all the others take four times their size. Base64 is ASCII.
LONGEST_NOT_ASCII = 2**22


def posted_image() -> Any:
    """Return what the body says "img" is; raises `ContractError` or an HTTP error."""
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        raise LengthRequired("the request must tell its Content-Length")
    body = request.get_data(cache=False)
    if request.content_encoding not in (None, "identity"):
        raise ContractError("unsupported_encoding", "the body must be sent uncompressed", 415)
    try:
        _check_cost(body)
        # Numbers are not looked at, and an endless one is cheaper as a float.
        document = json.loads(
            body, parse_int=float, parse_constant=_no_number, object_pairs_hook=_object
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


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands in an object twice")
    return found


def _check_cost(body: bytes) -> None:
    """Raise `ValueError` if reading `body` would take much more memory than it has itself."""
    if sum(body.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    if len(body) > LONGEST_NOT_ASCII and not body.isascii():
        raise ValueError("it is long and holds other characters than ASCII")
