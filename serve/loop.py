"""What gunicorn's gevent worker does not do by itself, by its public hooks.

The loop must go on while the model runs, clients that stall or say nothing must not stay, what is
no HTTP is answered in the one shape of error, and a worker in which an image hangs ends. Under
gunicorn's other workers all of this does nothing, and the functions here just call.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Flask, Response, request
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from werkzeug.exceptions import RequestTimeout

# Seconds a run may take longer than it was given before it counts as hung.
GRACE = 1
# Seconds that a client gets to hear the end of an answer before its connection is cut.
LINGER = 2
# Seconds in which a client must take an answer, be it a page over a slow line.
TAKE = 30
# Seconds in which a worker that ends answers what it can.
LAST_WORDS = 2
# Bytes of a body that are dropped for the sake of the connection.
DROPPED = 2**21
# What says in a request's environment that its body was read.
READ = "serve.read"
# Seconds between two looks at what took too long.
SWEEP = 0.1

# gunicorn's own object for the request at hand, which alone can have its connection closed.
handled: ContextVar[Any] = ContextVar("handled", default=None)


class Hung(Exception):
    """A call did not come back, though it was told to stop."""


def active() -> bool:
    """Return whether this process serves by gevent's loop."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("socket"))


@contextmanager
def limit(until: float, error: type[BaseException] | BaseException) -> Iterator[None]:
    """Raise `error` in the block at `until`, a time of `time.monotonic`."""
    if not active():
        yield
        return
    import gevent

    with gevent.Timeout(until - time.monotonic(), error):
        yield


def apart(until: float, function: Callable, *args: object) -> Any:
    """Return what the function does, called in a thread so that the loop goes on meanwhile.

    Raises `Hung` if it takes longer than `until`, a time of `time.monotonic`, and some grace.
    """
    if not active():
        return function(*args)
    import gevent

    with limit(until + GRACE, Hung):
        return gevent.get_hub().threadpool.apply(function, args)


@dataclass
class Connection:
    """What a connection is waited for: `kept` after an answer, `busy` with a request, or new."""

    until: float
    state: str = "new"


class Watch:
    """Looks after the connections of a gevent worker, whose Flask `app` has a `queue`."""

    def __init__(self, worker: Any, app: Flask, deadline: float) -> None:
        import gevent

        self._worker, self._deadline = worker, deadline
        self._queue = app.extensions["queue"]
        self._connections: dict[socket.socket, Connection] = {}
        self._handle = worker.handle
        worker.handle = self._tracked
        app.before_request(self._begin)
        app.extensions["watch"] = self
        gevent.spawn(self._run)

    def _tracked(self, listener: object, client: socket.socket, address: object) -> None:
        self._connections[client] = Connection(time.monotonic() + self._deadline)
        try:
            self._handle(listener, client, address)
        finally:
            del self._connections[client]

    def _begin(self) -> None:
        # Until then it is answered; the rest is for the client to take the answer.
        until = time.monotonic() + self._deadline + TAKE
        self._set(request.environ["gunicorn.socket"], until, "busy")

    def answered(self, client: socket.socket) -> None:
        """Wait for the next request of a `client` that was answered."""
        self._set(client, time.monotonic() + self._worker.cfg.keepalive, "kept")

    def _set(self, client: socket.socket, until: float, state: str) -> None:
        if client in self._connections:
            self._connections[client] = Connection(until, state)

    def _run(self) -> None:
        import gevent

        ending = None
        while True:
            gevent.sleep(SWEEP)
            now = time.monotonic()
            if self._queue.closed and not ending:
                self._worker.log.error("An image hangs in the model (pid: %s)", os.getpid())
                self._worker.alive = False
            if not self._worker.alive and ending is None:
                ending = now + LAST_WORDS
            for client, connection in list(self._connections.items()):
                if connection.until <= now:
                    _shut(client, socket.SHUT_RDWR)
                elif ending and (
                    (connection.state == "kept" and not _arrived(client))
                    or (connection.state == "new" and ending <= now)
                ):
                    _shut(client, socket.SHUT_RD)  # an answer still goes out
            if self._queue.closed:
                busy = any(c.state == "busy" for c in self._connections.values())
                if not busy or ending <= now:
                    os._exit(1)  # its thread never ends, so the usual way out would not either


def plain_sleep(seconds: float) -> None:
    """Sleep as without gevent: nothing else goes on, but signals are handled."""
    if not active():
        time.sleep(seconds)
        return
    from gevent.monkey import get_original

    get_original("time", "sleep")(seconds)


def _shut(client: socket.socket, how: int) -> None:
    """Have `client` read its end, as if it had closed; gevent's own way would be an error."""
    from gevent.monkey import get_original

    with (
        suppress(OSError),
        get_original("socket", "socket")(fileno=os.dup(client.fileno())) as same,
    ):
        same.shutdown(how)


def _arrived(client: socket.socket) -> int:
    """Return how many bytes of `client` nobody has read yet."""
    with suppress(OSError, ValueError):  # closed meanwhile
        return struct.unpack("i", fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(4)))[0]
    return 0


def close_unread(response: Response) -> Response:
    """Have the body that `response` leaves unread dropped, after the client has the answer.

    Closing at once could destroy the answer on its way, and gunicorn would drop a long body a
    kilobyte at a time, while nobody else is served. After a long one the connection is closed.
    """
    ours, client = handled.get(), request.environ.get("gunicorn.socket")
    length = request.content_length
    unread = (length or "Transfer-Encoding" in request.headers) and not request.environ.get(READ)
    if not unread or ours is None or client is None:
        return response
    if length is None or length > DROPPED or response.status_code == RequestTimeout.code:
        ours.force_close()
    if ours.should_close():
        response.call_on_close(partial(linger, client))
    else:
        response.call_on_close(partial(_drop, request.environ["wsgi.input"], length))
    return response


def _drop(stream: Any, length: int) -> None:
    with suppress(Exception), limit(time.monotonic() + 4 * LINGER, TimeoutError):
        stream.read(length)  # if it fails, gunicorn closes the connection


def linger(client: socket.socket) -> None:
    """Close the way out, and drop what still comes in for a while or until the client closes."""
    end = time.monotonic() + 4 * LINGER
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while (left := end - time.monotonic()) > 0:
            client.settimeout(min(LINGER, left))
            if not client.recv(2**16):
                break
            time.sleep(0)  # others are served as well


def answer_error(worker: Any, req: object, client: socket.socket, address, error) -> None:
    """Answer what is no request in the one shape of error; gunicorn calls it `handle_error`."""
    if isinstance(error, LimitRequestLine):
        status, code, message = 414, "uri_too_long", "the first line is too long"
    elif isinstance(error, LimitRequestHeaders):
        status, code = 431, "request_header_fields_too_large"
        message = "the headers are too many or too long"
    elif isinstance(error, ParseException):
        status, code, message = 400, "bad_request", "this is no valid HTTP request"
    else:
        status, code, message = 500, "internal_error", "the server failed on this request"
        worker.log.error("a request failed", exc_info=error)
    # What was sent instead of a request may be an image, so it does not go into the log.
    worker.log.refused(address, status, type(error).__name__)
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    head = (
        f"HTTP/1.1 {status} {code.replace('_', ' ').title()}\r\n"
        "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with suppress(OSError):
        client.sendall(head.encode() + body)
        linger(client)
