"""Asks a server that keeps the challenge's contract: one image, one request, one answer.

Every request has a connection of its own, as the challenge's scorer does it, and one deadline for
the whole answer. The API key of the environment variable API_KEY goes along. Redirects are never
followed: the key, and the image, would go to a server that nobody named. A proxy that the
environment names is used, except on the way to this machine.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
from PIL import Image

from tumour_segmenter import contract
from tumour_segmenter.errors import ContractError, UsageError
from tumour_segmenter.png import read_header, read_samples
from tumour_segmenter.segmenter import Prediction
from tumour_segmenter.settings import API_KEY, read

TIMEOUT = 10.0  # seconds; "You have 10 seconds to return your predictions for each image."
PATIENT_TIMEOUT = 60.0  # where nobody counts them
MOST_TRIES = 8  # of a server that says it is busy
LONGEST_WAIT = 30  # seconds between two of them
ANY_SIZE = 2**62  # pixels; a mask must be as large as its image anyway
EXAMPLE = "http://127.0.0.1:8000"


class Unanswered(Exception):
    """No complete HTTP answer came: refused, broken off or late."""


class Late(Unanswered):
    """The answer was not complete within the time-out."""


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; `seconds` from before the connection until the last byte."""

    status: int
    body: bytes
    seconds: float
    headers: Mapping[str, str]  # names in any case


def ask(
    url: str,
    path: str,
    body: bytes | None = None,
    timeout: float = TIMEOUT,
    method: str | None = None,
) -> Reply:
    """GET, or with a JSON `body` POST, `path` of the server at `url`.

    Raises `Late` after `timeout` seconds, `Unanswered` when the connection fails or breaks, and
    `UsageError` for an API key that no header can carry.
    """
    start = time.perf_counter()

    def remaining() -> float:
        left = start + timeout - time.perf_counter()
        if left <= 0:
            raise TimeoutError
        return left

    parts = urlsplit(url + path)
    headers: dict[str, str | bytes] = {"Connection": "close"} | _authorization()
    if body:
        headers["Content-Type"] = "application/json"
    connection, target = _connect(parts, timeout, headers)
    connection.response_class = lambda sock, **more: http.client.HTTPResponse(
        _UntilDeadline(sock, remaining), **more
    )
    try:
        connection.request(method or ("POST" if body else "GET"), target, body, headers)
        response = connection.getresponse()
        answer = response.read()
        seconds = timeout - remaining()
    except TimeoutError as error:
        raise Late(f"no answer within {timeout:g} s") from error
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        raise Unanswered(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    return Reply(response.status, answer, seconds, response.headers)


class _UntilDeadline(io.RawIOBase):
    """What a socket receives, read with the seconds that `remaining` leaves for each piece.

    A socket's own time-out begins anew with each byte.
    """

    def __init__(self, sock: socket.socket, remaining: Callable[[], float]) -> None:
        self._sock, self._remaining = sock, remaining
        self._file = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int | None:
        self._sock.settimeout(self._remaining())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _authorization() -> dict[str, str | bytes]:
    key = str(read([API_KEY])["api_key"])
    if not key.isprintable():
        raise UsageError("the API key holds characters that no HTTP header can carry")
    return {"Authorization": f"Bearer {key}".encode()} if key else {}


def _connect(
    parts: SplitResult, timeout: float, headers: dict[str, str | bytes]
) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection that is not open yet, and what is asked for over it.

    A proxy's user and password are added to the `headers` that go to it.
    """
    is_secret = parts.scheme == "https"
    kind = http.client.HTTPSConnection if is_secret else http.client.HTTPConnection
    host, path = parts.hostname or "", parts._replace(scheme="", netloc="").geturl()
    proxy = None if is_loopback(host) or proxy_bypass(host) else getproxies().get(parts.scheme)
    if not proxy:
        return kind(host, parts.port, timeout=timeout), path
    by = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = kind(by.hostname or "", by.port or 80, timeout=timeout)
    login = f"{unquote(by.username or '')}:{unquote(by.password or '')}".encode()
    to_proxy = {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"}
    if not by.username:
        to_proxy = {}
    if is_secret:
        connection.set_tunnel(host, parts.port, to_proxy)
        return connection, path
    headers |= to_proxy
    return connection, parts.geturl()


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address without brackets, is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def checked_url(url: str) -> str:
    """Return the base URL of a server without a slash at its end.

    Raises `UsageError` for what is no such address.
    """
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and not parts.username
    except ValueError:  # brackets of IPv6 that do not match, a port that is none
        valid = False
    if not valid:
        raise UsageError(f"{url!r} is no address such as {EXAMPLE}")
    base = parts._replace(path=parts.path.removesuffix("/predict"), query="", fragment="").geturl()
    if base != url:
        raise UsageError(f"{url}: give the base URL, here {base}; /predict is added to it")
    return url


def check(url: str) -> str:
    """Return `checked_url(url)`, once a server answers there that takes images and our key.

    It is asked for no page, because a server of the challenge need not know another path than
    /predict, and for no mask. Raises `UsageError`.
    """
    url = checked_url(url)
    try:
        reply = ask(url, "/predict", method="OPTIONS")
    except Unanswered as error:
        raise UsageError(f"no server answers at {url}: {error}") from error
    if reply.status != 405:  # which many servers answer to OPTIONS, but no image
        refuse(url, reply)
    return url


def refuse(url: str, reply: Reply) -> None:
    """Raise `UsageError` where `reply` shows that no image will ever get a mask from `url`."""
    if reply.status in (401, 403):
        what = "does not take the API key" if _authorization() else "wants an API key"
        raise UsageError(
            f"the server at {url} {what} ({reply.status}): set the environment variable API_KEY"
        )
    if reply.status in (404, 405):
        raise UsageError(
            f"the server takes no images at {url}/predict ({reply.status}): give its base URL, "
            f"such as {EXAMPLE}"
        )
    if 300 <= reply.status < 400:
        to = urljoin(f"{url}/predict", reply.headers.get("Location", "")).removesuffix("/predict")
        raise UsageError(f"{url} redirects ({reply.status}): if you trust it, ask {to} instead")


def about(url: str, path: str = "/api") -> dict[str, Any]:
    """Return the JSON object at `path` of a server, empty where it has none."""
    try:
        reply = ask(url, path)
        answer = json.loads(reply.body) if reply.status == 200 else {}
    except (Unanswered, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def request_body(
    pixels: np.ndarray, operating_point: str | None = None, probability: bool = False
) -> bytes:
    """Return the JSON that carries `pixels`, uint8 H×W, as the challenge sends an image.

    That is a PNG of three channels in base64. The options are no part of the challenge; our server
    takes them.
    """
    png = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(png, "PNG")
    fields: dict[str, object] = {"img": base64.b64encode(png.getvalue()).decode()}
    if operating_point is not None:
        fields["operating_point"] = operating_point
    if probability:
        fields["probability"] = True
    return json.dumps(fields).encode()


def read_mask(reply: Reply, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask in `reply`, uint8 H×W of 0 and 255, checked as the challenge checks it.

    shape: (H, W) of the image that was asked about. Raises `ContractError`.
    """
    if reply.status != 200:
        raise ContractError("bad_answer", f"the server answered {reply.status}: {_words(reply)}")
    mask = _read_image(reply, "img", shape)
    contract.check_mask(mask, shape)
    return mask[..., 0]


def _words(reply: Reply) -> str:
    try:
        return str(json.loads(reply.body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.body[:200].decode(errors="replace").strip() or "nothing more"


def _read_image(reply: Reply, field: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the PNG in base64 under `field`, H×W×channels: 1 of a grey file, 3 of a coloured."""
    try:
        png = base64.b64decode(json.loads(reply.body)[field], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError("bad_answer", f"the answer holds no {field} in base64") from error
    header = read_header(png, ANY_SIZE)
    if (header.height, header.width) != tuple(shape[:2]):
        size, expected = f"{header.width}×{header.height}", f"{shape[1]}×{shape[0]}"
        raise ContractError("bad_answer", f"{field} has {size} pixels, expected {expected}")
    return read_samples(png, ANY_SIZE).colours


class RemoteSegmenter:
    """The model behind the server at `url`, with the same call as one here."""

    def __init__(self, url: str) -> None:
        """Raises `UsageError` for what is no address."""
        self._url = checked_url(url)

    def __call__(self, pixels: np.ndarray, operating_point: str | None = None) -> np.ndarray:
        """Turn grey `pixels`, uint8 H×W, dark = hot, into a mask, uint8 H×W of 0 and 255."""
        return self.run(pixels, operating_point).mask

    def run(
        self, pixels: np.ndarray, operating_point: str | None = None, probability: bool = False
    ) -> Prediction:
        """Return the mask, and the probability if it is asked for, of `pixels`.

        Waits and asks again while the server is busy. Raises `Unanswered`, `ContractError` if the
        answer is not what was asked for, and `UsageError` if no image will get another one.
        """
        reply = self._answer(request_body(pixels, operating_point, probability))
        refuse(self._url, reply)
        mask = read_mask(reply, pixels.shape)
        if not probability:
            return Prediction(mask, None)
        levels = _read_image(reply, "probability", pixels.shape)
        if levels.shape[2] != 1 or levels.dtype != np.uint8:
            raise ContractError("bad_answer", "the probability is no grey PNG of 8 bits")
        return Prediction(mask, levels[..., 0])

    def _answer(self, body: bytes) -> Reply:
        for tries in range(1, MOST_TRIES):
            reply = ask(self._url, "/predict", body, PATIENT_TIMEOUT)
            if reply.status != 503:
                return reply
            asked = reply.headers.get("Retry-After", "")
            time.sleep(min(LONGEST_WAIT, int(asked) if asked.isdigit() else tries))
        return ask(self._url, "/predict", body, PATIENT_TIMEOUT)
