"""gunicorn's gevent worker, and what it does not do by itself.

Clients that stall or say nothing do not stay, what is no HTTP is answered in the one shape of
error, images go to the worker that has the fewest, and a worker in which an image hangs ends.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import termios
import time
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import gevent
from flask import Response, request
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.ggevent import GeventWorker
from werkzeug.exceptions import RequestTimeout

from . import siblings
from .body import READ
from .queue import Queue

# Seconds after its deadline in which a client must take an answer, be it a page over a slow line.
SECONDS_TO_TAKE = 30
# Seconds that a client gets to hear the end of an answer before its connection is cut: between two
# pieces of what it still sends, and in all.
SECONDS_TO_HEAR, SECONDS_TO_HEAR_ALL = 2, 8
# Seconds in which a worker that ends answers what it can.
SECONDS_TO_END = 2
# Bytes of a body nobody wants that are read for the sake of the connection, and at once: a client
# that stalls holds as much memory as one piece.
DROPPED, PIECE = 2**21, 2**13


class Connection:
    """A client, and what its connection is there for now."""

    def __init__(self, worker: Worker, client: Any) -> None:
        self.worker, self.client = worker, client
        self.answered = False  # a request before
        self.request: Any = None  # gunicorn's own object for the request in hand
        self.waiting: gevent.Timeout | None = None  # how long for the next one
        self._greenlet = gevent.getcurrent()

    def has_sent(self) -> bool:
        """Return whether there is something that nobody has read yet."""
        with suppress(OSError, ValueError):  # closed meanwhile
            return any(fcntl.ioctl(self.client.fileno(), termios.FIONREAD, bytes(4)))
        return False

    def stop_waiting(self) -> None:
        """Act as if the time for the next request were over; gevent's hub must call it."""
        if self.waiting and self.waiting.pending:
            self._greenlet.throw(self.waiting)


connection: ContextVar[Connection | None] = ContextVar("connection", default=None)


class Worker(GeventWorker):
    """Serves a Flask app that keeps a `queue` and a `deadline` in its `extensions`."""

    def load_wsgi(self) -> None:
        """Load the app, in the worker."""
        super().load_wsgi()
        extensions = getattr(self.wsgi, "extensions", {})
        self.queue: Queue | None = extensions.get("queue")
        self.deadline: float = extensions.get("deadline", self.cfg.keepalive)
        self._connections: set[Connection] = set()
        self._ends = False

    def run(self) -> None:
        """Serve until the end."""
        if self.queue:
            gevent.spawn(self._end_when_hung)
            siblings.share_out(self, self.queue)
        super().run()

    def handle(self, listener: Any, client: Any, addr: object) -> None:
        """Serve one client's connection to its end."""
        here = Connection(self, client)
        connection.set(here)
        self._connections.add(here)
        try:
            super().handle(listener, client, addr)
        finally:
            self._connections.remove(here)

    def timeout_ctx(self) -> gevent.Timeout:
        """Return how long the head of a request is waited for; then the connection is closed."""
        here = connection.get()
        seconds = self.cfg.keepalive if here.answered else self.deadline
        if here.answered and not self.alive:
            seconds = 0  # what has come already is still answered
        here.waiting = gevent.Timeout(seconds, False)
        return here.waiting

    def handle_request(self, listener_name: object, req: Any, sock: Any, addr: object) -> Any:
        """Answer a request; a client that does not take the answer is cut off."""
        here = connection.get()
        here.request = req
        if siblings.have_fewer(self.number):
            req.force_close()  # the client connects again, to another worker
        cut = ConnectionResetError(errno.ECONNRESET, "the client does not take its answer")
        try:
            with gevent.Timeout(self.deadline + SECONDS_TO_TAKE, cut):
                return super().handle_request(listener_name, req, sock, addr)
        finally:
            here.request, here.answered = None, True
            if not self.alive:  # this was the last one before it is replaced
                self.end_waiting()

    def handle_exit(self, sig: int, frame: object) -> None:
        """Heed SIGTERM: what is in flight is answered, and nothing else is waited for."""
        super().handle_exit(sig, frame)
        if self.booted:
            self.end_waiting()

    def end_waiting(self) -> None:
        """Let go of clients that say nothing, those that have never asked anything a bit later."""
        if self._ends:
            return
        self._ends = True

        def end() -> None:
            self._stop_waiting([c for c in self._connections if c.answered and not c.has_sent()])
            gevent.sleep(SECONDS_TO_END)
            self._stop_waiting(list(self._connections))

        gevent.spawn(end)

    def _stop_waiting(self, connections: list[Connection]) -> None:
        for each in connections:
            gevent.get_hub().loop.run_callback(each.stop_waiting)

    def _end_when_hung(self) -> None:
        self.queue.closed.wait()
        self.log.error("An image hangs in the model (pid: %s)", self.pid)
        self.alive = False
        self.end_waiting()
        with gevent.Timeout(SECONDS_TO_END, False):
            while any(each.request for each in self._connections):
                gevent.sleep(0.05)
        os._exit(1)  # its thread never ends, so the usual way out would not either

    def handle_error(self, req: object, client: Any, addr: object, exc: BaseException) -> None:
        """Answer what is no request in the one shape of error."""
        if isinstance(exc, LimitRequestLine):
            status, code, message = 414, "uri_too_long", "the first line is too long"
        elif isinstance(exc, LimitRequestHeaders):
            status, code = 431, "request_header_fields_too_large"
            message = "the headers are too many or too long"
        elif isinstance(exc, ParseException):
            status, code, message = 400, "bad_request", "this is no valid HTTP request"
        else:
            status, code, message = 500, "internal_error", "the server failed on this request"
            self.log.error("a request failed", exc_info=exc)
        # What was sent instead of a request may be an image, so it does not go into the log.
        self.log.refused(addr, status, type(exc).__name__)
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        head = (
            f"HTTP/1.1 {status} {code.replace('_', ' ').title()}\r\n"
            "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError):
            client.sendall(head.encode() + body)
            linger(client)


def close_in_time(response: Response) -> Response:
    """Close the connection after `response` where the client should know, or its body is unread.

    Closing at once could destroy the answer on its way, and gunicorn would drop a long body a
    kilobyte at a time, while nobody else is served. So the body is dropped here, after the client
    has the answer, and after a long one the connection is closed.
    """
    here = connection.get()
    if here is None:  # another worker than ours
        return response
    if not here.worker.alive:
        here.request.force_close()
    length = request.content_length
    if READ in request.environ or not (length or "Transfer-Encoding" in request.headers):
        return response
    if length is None or length > DROPPED or response.status_code == RequestTimeout.code:
        here.request.force_close()
    if here.request.should_close():
        response.call_on_close(partial(linger, here.client))
    else:
        response.call_on_close(partial(_drop, here.request, length))
    return response


def _drop(req: Any, length: int) -> None:
    # If it fails, gunicorn closes the connection.
    with suppress(Exception), gevent.Timeout(SECONDS_TO_HEAR_ALL, TimeoutError):
        req.unreader.max_body_chunk = PIECE  # gunicorn would read up to a megabyte ahead
        while length > 0 and (piece := req.body.read(min(PIECE, length))):
            length -= len(piece)
        del req.unreader.max_body_chunk  # the next request is read as always


def linger(client: Any) -> None:
    """Close the way out, and drop what still comes in for a while or until the client closes."""
    end = time.monotonic() + SECONDS_TO_HEAR_ALL
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while (left := end - time.monotonic()) > 0:
            client.settimeout(min(SECONDS_TO_HEAR, left))
            if not client.recv(PIECE):
                break
            time.sleep(0)  # others are served as well
