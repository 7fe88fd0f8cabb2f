"""The model behind a server, with the same call as the one here."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.request

import numpy as np

from serve import contract
from serve.contract import ContractError
from serve.errors import UsageError

TIMEOUT = 60  # seconds for one answer
MOST_TRIES = 8  # of a server that says it is busy
LONGEST_WAIT = 30  # seconds between two of them


class ServerError(Exception):
    """A server that gave no mask; the message says why."""


class RemoteSegmenter:
    """The model behind the server at `url`, with the same call as the one here."""

    def __init__(self, url: str, api_key: str = "") -> None:
        self._predict = f"{url.rstrip('/')}/predict"
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Turn grey pixels, uint8 H×W, dark = hot, into a mask, uint8 H×W of 0 and 255.

        Waits and asks again while the server is busy. Raises `ServerError`, and `ContractError`
        if the answer is no mask of that shape.
        """
        body = json.dumps({"img": contract.encode(pixels)}).encode()
        return _read_mask(self._ask(body), pixels.shape)

    def _ask(self, body: bytes) -> bytes:
        for tries in range(1, MOST_TRIES + 1):
            request = urllib.request.Request(self._predict, body, self._headers)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 503 or tries == MOST_TRIES:
                        raise ServerError(_words(error)) from error
                    asked = error.headers.get("Retry-After", "")
                time.sleep(min(LONGEST_WAIT, int(asked) if asked.isdigit() else tries))
            except (OSError, http.client.HTTPException) as error:
                why = getattr(error, "reason", None) or error
                raise ServerError(f"{self._predict} gave no answer: {why}") from error
        raise AssertionError("the last try returns or raises")


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


def check(url: str) -> None:
    """Raise `UsageError` unless a server answers at `url`."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url!r} is no address such as http://127.0.0.1:8000")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/healthz/live", timeout=10):
            pass
    except urllib.error.HTTPError as error:
        with error:
            return  # something answers; what it makes of an image will be seen
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise UsageError(f"no server answers at {url}: {why}") from error
