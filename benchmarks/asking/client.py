"""One image, one question, one answer: the HTTP side of the challenge's scorer.

Every request uses a fresh connection, as a scorer that knows nothing of the server does, and has a
deadline for the whole answer, not only for each read. No proxy is used. A server's API key is taken
from the environment variable API_KEY, which a server that is started here reads as well.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from tumour_segmenter import contract
from tumour_segmenter.errors import UsageError

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
    """`url` without a trailing slash, once a server answers there; UsageError if it can't be asked.

    Any HTTP answer will do: a server of the challenge need not know another path than /predict.
    """
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets of IPv6 that do not match, a port that is none
        valid = False
    if not valid:
        raise UsageError(f"{url!r} is no address such as http://127.0.0.1:8000")
    base = f"{parts.scheme}://{parts.netloc}"
    if parts.path.endswith("/predict") or parts.query or parts.fragment:
        base += parts.path.removesuffix("/predict") if parts.path.endswith("/predict") else ""
        raise UsageError(f"{url}: give the base URL, here {base}; /predict is added to it")
    try:
        reply = ask(url, "/api")
    except Unanswered as error:
        raise UsageError(f"cannot reach {url}: {error}") from error
    if 300 <= reply.status < 400:
        refuse(url, reply)
    return url


def refuse(url: str, reply: Reply) -> None:
    """Raises UsageError where `reply` shows that all others from `url` will be no masks either."""
    if reply.status in (404, 405):
        raise UsageError(
            f"{url}/predict answers {reply.status}: give the base URL of a server that has "
            "POST /predict, such as http://127.0.0.1:8000"
        )
    if reply.status in (401, 403):
        raise UsageError(
            f"{url} answers {reply.status}: it wants its API key, by --api-key or in the "
            "environment variable API_KEY"
        )
    if 300 <= reply.status < 400:
        raise UsageError(f"{url} redirects ({reply.status}): give the address it redirects to")


@contextmanager
def using_key(key: str | None) -> Iterator[None]:
    """Meanwhile `key` is the API key of each request, and of a server that is started here.

    None leaves the one of the environment. Raises UsageError for what no header can carry.
    """
    before = os.environ.get("API_KEY")
    if key is not None:
        os.environ["API_KEY"] = key
    try:
        authorization()
        yield
    finally:
        os.environ.pop("API_KEY", None)
        if before is not None:
            os.environ["API_KEY"] = before


def authorization() -> dict[str, str]:
    """The header that carries the API key, none where there is no key. Raises UsageError."""
    key = os.environ.get("API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError("the API key holds characters that no HTTP header can carry")
    return {"Authorization": f"Bearer {key}"} if key else {}


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
        headers = {"Connection": "close"} | authorization()
        headers |= {"Content-Type": "application/json"} if body else {}
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


def request_body(image: Image.Image, operating_point: str | None = None) -> bytes:
    """The JSON that carries `image`, as the challenge sends it: a three-channel PNG in base64.

    `operating_point` is no part of the challenge; our server takes it.
    """
    png = io.BytesIO()
    image.convert("RGB").save(png, "PNG")
    fields = {"img": base64.b64encode(png.getvalue()).decode()}
    if operating_point is not None:
        fields["operating_point"] = operating_point
    return json.dumps(fields).encode()


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
