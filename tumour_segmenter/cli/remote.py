"""The model behind a server, with the same call as the one here."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import secrets
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tumour_segmenter import contract
from tumour_segmenter.contract import ContractError
from tumour_segmenter.errors import UsageError

TIMEOUT = 60  # seconds for one answer
MOST_TRIES = 8  # of a server that says it is busy
LONGEST_WAIT = 30  # seconds between two of them
WRONG_KEY, WRONG_PLACE = (401, 403), (404, 405)


class ServerError(Exception):
    """A server that gave no mask; the message says why.

    `is_final` where no other image would get one either.
    """

    def __init__(self, message: str, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class RemoteSegmenter:
    """The model behind the server at `url`, with the same call as the one here."""

    def __init__(self, url: str, api_key: str = "", operating_point: str | None = None) -> None:
        self._url, self._api_key = url, api_key
        self._point = {"operating_point": operating_point} if operating_point else {}

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Turn grey pixels, uint8 H×W, dark = hot, into a mask, uint8 H×W of 0 and 255.

        Waits and asks again while the server is busy. Raises `ServerError`, and `ContractError`
        if the answer is no mask of that shape.
        """
        body = json.dumps({"img": contract.encode(pixels)} | self._point).encode()
        return _read_mask(self._ask(body), pixels.shape)

    def _ask(self, body: bytes) -> bytes:
        for tries in range(1, MOST_TRIES + 1):
            request = _request(self._url, "predict", self._api_key, data=body)
            try:
                with _open(request, TIMEOUT) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    if why := _refusal(error.code, self._url, self._api_key):
                        raise ServerError(why, is_final=True) from error
                    if error.code != 503 or tries == MOST_TRIES:
                        raise ServerError(_words(error)) from error
                    asked = error.headers.get("Retry-After", "")
                time.sleep(min(LONGEST_WAIT, int(asked) if asked.isdigit() else tries))
            except (OSError, http.client.HTTPException) as error:
                why = getattr(error, "reason", None) or error
                raise ServerError(f"{request.full_url} gave no answer: {why}") from error
        raise AssertionError("the last try returns or raises")


def _request(url: str, path: str, api_key: str, **options: Any) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return urllib.request.Request(f"{url.rstrip('/')}/{path}", headers=headers, **options)


def _open(request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    """Ask, through the proxies that the environment names unless the server is on this machine."""
    direct = _is_loopback(urlsplit(request.full_url).hostname or "")
    handlers = [urllib.request.ProxyHandler({})] if direct else []
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def _refusal(status: int, url: str, api_key: str) -> str:
    """Return why no image will ever be taken, empty if this `status` does not mean that."""
    if status in WRONG_KEY:
        why = "does not take the key in API_KEY" if api_key else "wants a key: set API_KEY"
        return f"the server at {url} {why}"
    if status in WRONG_PLACE:
        base = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        return (
            f"the server takes no images at {url.rstrip('/')}/predict ({status}); give its base "
            f"URL, such as --url {base}"
        )
    return ""


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return json.load(error)["error"]["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"the server answered {error.code}"


def _read_mask(answer: bytes, shape: tuple[int, ...]) -> np.ndarray:
    try:
        png = base64.b64decode(json.loads(answer)["img"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError("bad_mask", "the server's answer holds no image") from error
    mask = contract.decode_png(png, shape[0] * shape[1])
    contract.check_mask(np.stack([mask] * 3, axis=2), shape)
    return mask


def check(url: str, api_key: str = "") -> dict[str, Any]:
    """Return what the server at `url` reports about itself at /api, or that it is unknown.

    Raises `UsageError` unless it takes images, at this address and with this key.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url!r} is no address such as http://127.0.0.1:8000")
    try:
        # Costs the server nothing, and no image: tells whether one would be let in.
        _open(_request(url, "predict", api_key, method="OPTIONS"), 10).close()
    except urllib.error.HTTPError as error:
        with error:
            if why := _refusal(error.code, url, api_key):
                raise UsageError(why) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise UsageError(f"no server answers at {url}: {why}") from error
    try:
        with _open(_request(url, "api", api_key), 10) as answer:
            about = json.load(answer)
        if isinstance(about["model"], dict):
            return about
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        pass
    # Another program that keeps the contract: none of its masks can be known to be up to date.
    return {"model": {"name": f"unknown-{secrets.token_hex(8)}"}, "version": "unknown"}
