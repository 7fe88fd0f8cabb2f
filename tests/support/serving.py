"""Servers with a model that can be slow, and clients that say exactly what a test wants."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
from werkzeug.serving import make_server

from benchmarks.host.limits import Limits
from benchmarks.host.server import Server
from serve.app import create_app
from serve.settings import Settings
from tumour_segmenter import client
from tumour_segmenter.contract import encode


def serving(model: os.PathLike | str, **variables: str) -> Server:
    """A gunicorn to be used in a `with`; `variables` are its settings."""
    cores = frozenset(os.sched_getaffinity(0))
    return Server(Limits(cores, None, ""), MODEL=os.fspath(model), **variables)


@contextmanager
def serving_app(model: os.PathLike | str, **variables: str) -> Iterator[str]:
    """The URL of the app in a thread of this process, which starts at once; no gunicorn."""
    app = create_app(Settings.read({"MODEL": os.fspath(model), **variables}))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()


def body_of(pixels: np.ndarray) -> bytes:
    return json.dumps({"img": encode(pixels)}).encode()


def post(url: str, pixels: np.ndarray, timeout: float = 30) -> client.Reply:
    return client.ask(url, "/predict", body_of(pixels), timeout)


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def request_of(body: bytes, *headers: bytes, path: bytes = b"/predict") -> bytes:
    head = [b"POST %b HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and body of the next answer; status 0 if there is none."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (piece := sock.recv(1)):
            return 0, {}, received
        received += piece
    first, *lines = received.decode("latin-1").strip().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    status, body = int(first.split()[1]), b""
    if status == 100:
        return read_answer(sock)
    while missing := int(headers.get("content-length", 0)) - len(body):
        if not (piece := sock.recv(missing)):  # no more: what follows is the next answer
            break
        body += piece
    return status, headers, body


def ask_raw(url: str, data: bytes) -> tuple[int, dict[str, str], bytes]:
    with connect(url) as sock:
        sock.sendall(data)
        return read_answer(sock)


def wait(done: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def together(*calls: Callable[[], object]) -> list:
    """What the calls return, made at once, each in a thread of its own; in their order."""
    results: list = [None] * len(calls)

    def run(i: int) -> None:
        results[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
