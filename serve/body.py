"""The body of a request -> what it asks for, at a cost that is known beforehand."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from flask import request
from werkzeug.exceptions import LengthRequired

from serve.contract import ContractError

EXPECTED = '{"img": "<base64 PNG>"}'
# An image is a single value, however large; many small ones would take many times their size.
MOST_VALUES = 10_000
# One wide character makes all the others take four times their size. Base64 has none.
LONGEST_WIDE = 2**22
WIDE_ESCAPE = re.compile(rb"\\u(?!00)")


class Posted(NamedTuple):
    """What a body says, unchecked: any JSON may stand there."""

    img: Any
    operating_point: Any  # None where it does not say


def posted() -> Posted:
    """Return what the body of this request asks for; raises `ContractError` or an HTTP error."""
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        raise LengthRequired("the request must tell its Content-Length")
    if request.content_encoding not in (None, "identity"):
        raise ContractError("unsupported_encoding", "the body must be sent uncompressed", 415)
    try:
        # Numbers are not looked at, and an endless one is cheaper as a float.
        document = json.loads(
            _text(request.get_data(cache=False)),
            parse_int=float,
            parse_constant=_no_number,
            object_pairs_hook=_object,
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
    return Posted(document["img"], document.get("operating_point"))


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands in an object twice")
    return found


def _text(body: bytes) -> str:
    """Return JSON as text; raise `ValueError` if reading it takes far more memory than it has."""
    if sum(body.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    if len(body) > LONGEST_WIDE and (not body.isascii() or WIDE_ESCAPE.search(body)):
        raise ValueError("it is long and holds other characters than ASCII")
    return body.decode(json.detect_encoding(body))
