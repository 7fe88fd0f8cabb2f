"""A small server in the test's own process, so that its answers can be anything."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature

import numpy as np
from PIL import Image

from tumour_segmenter import contract

LESION = 100  # in the images of these tests lesions are darker than this, all else is brighter


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the usual 5 a busy machine refuses connections


class ServerV6(Server):
    address_family = socket.AF_INET6


@contextmanager
def fake_server(
    answer: Callable[[np.ndarray], bytes],
    status: int = 200,
    headers: dict[str, str] | None = None,
    pages: dict[str, object] | None = None,
    key: str = "",
    options: int | None = None,
    host: str = "127.0.0.1",
) -> Iterator[str]:
    """The URL of a server on loopback; `answer` gets the posted image as H×W×3, gives the body.

    `pages` are paths that can be got, with their JSON; what is posted elsewhere than to /predict
    is not found; with a `key` only those who send it get an answer. OPTIONS is answered with
    `options`, by default `status`. An `answer` that takes `request` by keyword gets the whole JSON
    as well.
    """

    class Handler(BaseHTTPRequestHandler):
        def is_allowed(self) -> bool:
            expected = f"Bearer {key}".encode()
            return not key or self.headers.get("Authorization", "").encode("latin-1") == expected

        def do_OPTIONS(self) -> None:
            self.reply((options or status) if self.is_allowed() else 401, b"")

        def do_GET(self) -> None:
            page = (pages or {}).get(self.path)
            found = 200 if page is not None else status if status // 100 == 3 else 404
            self.reply(found, json.dumps(page or {}).encode())

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/predict":
                self.reply(404, b"{}")
                return
            if not self.is_allowed():
                self.reply(401, b"{}")
                return
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(request["img"]))))
            whole = {"request": request} if "request" in signature(answer).parameters else {}
            body = answer(pixels, **whole)
            with suppress(OSError):  # a client that stopped waiting
                self.reply(status, body)

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = (ServerV6 if ":" in host else Server)((host, 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def perfect(image: np.ndarray) -> bytes:
    """The right answer to an image of these tests."""
    assert image.shape[2:] == (3,), "the challenge posts three channels"
    mask = np.where(image[..., 0] < LESION, 255, 0).astype(np.uint8)
    return json.dumps({"img": contract.encode(mask)}).encode()
