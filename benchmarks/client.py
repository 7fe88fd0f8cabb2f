"""One image, one question, one answer: the HTTP side of the challenge's scorer.

Every request uses a fresh connection, as a scorer that knows nothing of the server does, and has a
deadline for the whole answer, not only for each read.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import json
import socket
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.common import UsageError
from serve import contract

TIMEOUT = 10.0  # seconds; "You have 10 seconds to return your predictions for each image."


class Unanswered(Exception):
    """No complete HTTP answer came: refused, broken off or late."""


class Late(Unanswered):
    """The answer was not complete within the time-out."""


class Malformed(Exception):
    """An answer came, but it is not a mask that the challenge accepts."""


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; `seconds` from before the connection until the last byte.

    `stages` are the server's own times in ms by name, from its Server-Timing header.
    """

    status: int
    body: bytes
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)


def check_url(url: str) -> str:
    """`url` without a trailing slash, once something listens there; UsageError if not."""
    parts = urlsplit(url)
    try:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no address such as http://127.0.0.1:8000")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot reach {url}: {error}") from error
    return url.rstrip("/")


def ask(url: str, path: str, body: bytes | None = None, timeout: float = TIMEOUT) -> Reply:
    """GETs, or with a JSON `body` POSTs, `path` of the server at `url`.

    Raises Late after `timeout` seconds, Unanswered when the connection fails or breaks.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    start = perf_counter()

    def remaining() -> float:
        left = start + timeout - perf_counter()
        if left <= 0:
            raise TimeoutError
        return left

    try:
        headers = {"Connection": "close"} | ({"Content-Type": "application/json"} if body else {})
        connection.request("POST" if body else "GET", parts.path + path, body, headers)
        wire = connection.sock  # the response takes the socket over, so keep hold of it
        wire.settimeout(remaining())
        response = connection.getresponse()
        chunks = []
        while True:
            wire.settimeout(remaining())
            chunk = response.read1(1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
            if response.isclosed():
                break
        seconds = perf_counter() - start
        if seconds > timeout:
            raise TimeoutError
    except TimeoutError as error:
        raise Late(f"no answer within {timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    stages = parse_stages(response.getheader("Server-Timing", ""))
    return Reply(response.status, b"".join(chunks), seconds, stages)


def parse_stages(header: str) -> dict[str, float]:
    """`"decode;dur=1.5, run;dur=30"` -> `{"decode": 1.5, "run": 30.0}`; skips the unreadable."""
    stages = {}
    for entry in header.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            try:
                if key == "dur":
                    stages[name] = float(value)
            except ValueError:
                continue
    return stages


def request_body(image: Image.Image) -> bytes:
    """The JSON that carries `image`, as the challenge sends it: a three-channel PNG in base64."""
    png = io.BytesIO()
    image.convert("RGB").save(png, "PNG")
    return json.dumps({"img": base64.b64encode(png.getvalue()).decode()}).encode()


def read_mask(reply: Reply, shape: tuple[int, int]) -> np.ndarray:
    """The mask in `reply`, uint8 H×W of 0 and 255, checked as the challenge checks it.

    `shape` is (H, W) of the image that was asked about. Raises Malformed.
    """
    if reply.status != 200:
        said = reply.body[:200].decode(errors="replace").strip()
        raise Malformed(f"status {reply.status}: {said}")
    try:
        png = base64.b64decode(json.loads(reply.body)["img"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Malformed('the answer is not {"img": base64}') from error
    return check_png(png, shape)


def check_png(png: bytes, shape: tuple[int, int]) -> np.ndarray:
    """The mask in the PNG, uint8 H×W of 0 and 255; raises Malformed.

    As in the challenge's decoder, colour (with or without alpha or palette) becomes three channels
    and grey stays a single one, which its check of the shape then refuses.
    """
    try:
        image = Image.open(io.BytesIO(png), formats=("PNG",))
        grey = image.mode in ("1", "L", "I", "I;16")
        mask = np.asarray(image if grey else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Malformed(f"the mask is no readable PNG: {error}") from error
    try:
        contract.check_mask(mask, shape)
    except contract.ContractError as error:
        raise Malformed(str(error)) from error
    return mask[..., 0]
