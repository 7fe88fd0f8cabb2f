"""gunicorn's threaded worker, made so that slow clients and hung images keep nobody out.

`gthread` gives a connection a thread and then reads from it, so as many slow clients as there are
threads shut the door. Here the loop that accepts connections reads them as well, and a request gets
a thread when all of it is there; what is not there in time is refused. gunicorn's own parser says
what a request is, so there is no second opinion for anyone to slip through. Plain HTTP/1 only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import time
from functools import partial

from gunicorn.http.body import LengthReader
from gunicorn.http.errors import (
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
)
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

from serve.settings import Settings
from serve.turns import Turns

# Longer heads are not waited for: gunicorn takes 100 lines of 8 kB, which nobody needs.
MAX_HEAD = 2**15
PIECE = 2**18
# Bytes of unfinished requests that a worker holds, all together; a whole image is far smaller.
MAX_HELD = 2**28
# Seconds that a client gets to hear the end of an answer before its connection is cut.
LINGER = 2
# Seconds in which an idle worker takes a connection before a busy one does.
COURTESY = 0.001
# Seconds until a new worker must give a sign of life; opening a model takes a slow machine long.
BOOT = 30
# Seconds that a worker has to answer when the master asks why it gives no sign of life.
WARNING = (0.9, 3.0)
# Seconds between two looks at what took too long.
SWEEP = 0.25
FOR_IMAGES = ("/predict", "/label", "/image")
HEAD_TOO_LONG = (431, "request_header_fields_too_large", "the headers are too many or too long")


class Socket(socket.socket):
    """A client's socket whose `recv` first gives what the loop has `received` already."""

    def __init__(self, client: socket.socket, patience: float) -> None:
        super().__init__(fileno=client.detach())
        self.received = bytearray()
        self.began = time.monotonic()  # when the request that is read now began
        self._patience = patience
        super().settimeout(0)

    def fetch(self) -> bytes:
        """Return what has arrived, empty at the end; raises BlockingIOError if nothing has."""
        return super().recv(PIECE)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.received:
            piece = bytes(self.received[:size])
            del self.received[:size]
            return piece
        return super().recv(size, flags)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        try:
            super().sendall(data, flags)
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the client does not read") from error

    def setblocking(self, flag: bool) -> None:
        """Block for a while at most: a client that stalls must not keep a thread."""
        self.settimeout(self._patience if flag else 0)


class Connection(TConn):
    """A client, and how much of its request is still to come."""

    def __init__(self, worker: Worker, client: socket.socket, address, server) -> None:
        super().__init__(worker.cfg, Socket(client, worker.settings.deadline), address, server)
        self.data_ready = True  # it gets no thread before
        self.whole = False
        self._linger = worker.linger
        self._max_body = worker.settings.max_body
        self._needed: int | None = None  # bytes of head and body; None: not known yet
        self.for_model = False  # whether it needs one of the places that there are for images

    def begin(self) -> None:
        """Start on a new request, with what was received behind the last one."""
        self.sock.setblocking(False)
        if self.parser:
            self.sock.received[:0] = self.parser.unreader.take_buffered()
        self.sock.began = time.monotonic()
        self.whole, self._needed, self.for_model = False, None, False

    def take(self, data: bytes) -> bool:
        """Add what arrived; return whether the request can be dealt with now.

        Raises `LimitRequestHeaders` if its head is too long to wait for the end.
        """
        received = self.sock.received
        received += data
        if self._needed is None and received:
            self._needed = self._measure(bytes(received[:MAX_HEAD]))
        self.whole = bool(self._needed) and len(received) >= self._needed
        return self.whole or self._needed == 0

    def _measure(self, head: bytes) -> int | None:
        """Return the bytes of the request; None: not known yet, 0: answer without its body."""
        try:
            request = Request(self.cfg, IterUnreader([head]), self.client)
        except NoMoreData:
            if len(head) == MAX_HEAD:
                raise LimitRequestHeaders("head") from None
            return None
        except Exception:  # the thread will meet the same, and answers it
            return 0
        self.for_model = request.path in FOR_IMAGES and request.method == "POST"
        body = request.body.reader
        # A chunked body is refused, and so is one that is too long: there is nothing to wait for.
        if not isinstance(body, LengthReader) or body.length > self._max_body:
            return 0
        if request._expected_100_continue:
            self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return head.index(b"\r\n\r\n") + 4 + body.length

    def close(self, graceful: bool = False) -> None:
        """Close; when `graceful`, in a while, so that the client hears the answer."""
        if graceful:
            self._linger(self)
        else:
            super().close()


class Worker(ThreadWorker):
    """What gunicorn.conf.py names as the worker class."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.settings = Settings.read()
        # Connections that have no thread -> when their time is over.
        self._reading: dict[Connection, float] = {}
        self._lingering: dict[Connection, float] = {}
        self._swept = self._asked = float("-inf")
        self._stopped = False

    # The door

    def accept(self, listener) -> None:
        """Take a connection, but let a worker that has nothing to do take it first."""
        if self.alive and self.cfg.workers > 1 and self._in_hand():
            time.sleep(COURTESY)
        try:
            client, address = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self.log.warning("a connection cannot be taken: %s", error.strerror)
            time.sleep(0.1)  # no file is left, perhaps: do not ask again at once
            return
        self.nr_conns += 1
        self.enqueue_req(Connection(self, client, address, listener.getsockname()))

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if self._stopped and not enabled:
            # Who stands in the line of a socket that is closed for good would be cut off.
            for listener in self.sockets:
                before = -1
                while before < self.nr_conns < self.worker_connections:
                    before = self.nr_conns
                    self.accept(listener)
                listener.close()

    def handle_exit(self, sig, frame) -> None:
        self._stopped = True
        super().handle_exit(sig, frame)

    # Reading

    def enqueue_req(self, conn: Connection) -> None:
        """Read the next request of `conn`, and give it a thread once it is there.

        All ways to a thread lead through here: new and kept connections, and requests behind one
        that was answered.
        """
        conn.begin()
        self._read(conn)

    def _read(self, conn: Connection, _: object = None) -> None:
        try:
            data = conn.sock.fetch()
            ended = not data
        except BlockingIOError:
            data, ended = b"", False
        except OSError:
            data, ended = b"", True
        try:
            ready = conn.take(data)
        except LimitRequestHeaders:
            self._refuse(conn, *HEAD_TOO_LONG)
            return
        if ready:
            self._admit(conn)
        elif ended:
            self._forget(conn, self._reading)
            self._drop(conn)
        elif conn not in self._reading:
            self._reading[conn] = conn.sock.began + self.settings.deadline
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read, conn))
        elif len(conn.sock.received) > PIECE:
            held = sum(len(other.sock.received) for other in self._reading)
            if held > MAX_HELD:
                self._refuse(conn, 503, "overloaded", "too many large bodies are under way")

    def _admit(self, conn: Connection) -> None:
        """Give a request a thread, or refuse an image at once for which there is no place."""
        busy = self._turns and conn.for_model and self._turns.refused_at_door()
        if busy:
            self._refuse(conn, 503, "overloaded", str(busy), busy.retry_after)
        else:
            self._forget(conn, self._reading)
            super().enqueue_req(conn)

    def handle_request(self, req, conn: Connection) -> bool:
        """Let the app answer. The client comes in by the door again, and so to the least busy
        worker, if this one has others to serve; and if the rest of its body is in the way.
        """
        if not conn.whole or self._in_hand() > 1:
            req.force_close()
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        # All of the body is here, so that what the app left of it is dropped without waiting.
        if not keepalive or not conn.parser.finish_body():
            return False
        # What was read of the next request goes where finish_request looks for it.
        behind = conn.parser.unreader.buf
        behind.seek(0, os.SEEK_END)
        behind.write(conn.sock.received)
        conn.sock.received.clear()
        return True

    def handle_error(self, req, client, addr, exc) -> None:
        """Answer what is no request, or what the app failed to, in the one shape of error."""
        if isinstance(exc, LimitRequestLine):
            status, code, message = 414, "uri_too_long", "the first line is too long"
        elif isinstance(exc, LimitRequestHeaders):
            status, code, message = HEAD_TOO_LONG
        elif isinstance(exc, ParseException):
            status, code, message = 400, "bad_request", "this is no valid HTTP request"
        else:
            status, code, message = 500, "internal_error", "the server failed on this request"
            self.log.exception("a request failed")
        # What was sent instead of a request may be an image, so it does not go into the log.
        self.log.refused(addr, status, type(exc).__name__)
        with contextlib.suppress(OSError):
            client.sendall(_answer(status, code, message))

    # Time

    def murder_pending(self) -> None:
        """End what took too long. The loop calls this at least once a second."""
        now = time.monotonic()
        if now < self._swept + SWEEP:
            return
        self._swept = now
        for conn in [c for c, until in self._reading.items() if until <= now]:
            if conn.sock.received:
                self._refuse(conn, 408, "request_timeout", "the request did not arrive in time")
            else:
                self._forget(conn, self._reading)
                self._drop(conn)
        for conn in [c for c, until in self._lingering.items() if until <= now]:
            self._end(conn)

    def linger(self, conn: Connection) -> None:
        """Close the way out, and drop what still comes in until the client closes as well.

        Closing at once could destroy an answer that the client has not read yet.
        """
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._listen, conn))
        except (OSError, ValueError):
            conn.close()
            return
        self.nr_conns += 1
        self._lingering[conn] = time.monotonic() + LINGER

    def _listen(self, conn: Connection, _: object) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                if conn.sock.fetch():
                    latest = conn.sock.began + self.settings.deadline
                    self._lingering[conn] = min(time.monotonic() + LINGER, latest)
                    return
            except ConnectionError:
                pass
            self._end(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """Do not let clients that ask nothing hold up the end of a worker."""
        super()._cap_keepalive(deadline)
        for conn in self._reading:
            if not conn.sock.received:
                self._reading[conn] = min(self._reading[conn], deadline)

    def _refuse(
        self, conn: Connection, status: int, code: str, message: str, retry_after: int | None = None
    ) -> None:
        self._forget(conn, self._reading)
        self.log.refused(conn.client, status, code)
        with contextlib.suppress(OSError):
            conn.sock.send(_answer(status, code, message, retry_after))
        conn.sock.received.clear()
        self.nr_conns -= 1
        # What is still to come of a request would destroy the answer; after a whole one comes none.
        conn.close(graceful=not conn.whole)

    def _end(self, conn: Connection) -> None:
        self._forget(conn, self._lingering)
        self._drop(conn)

    def _forget(self, conn: Connection, where: dict[Connection, float]) -> None:
        if where.pop(conn, None):
            self.poller.unregister(conn.sock)

    @property
    def _turns(self) -> Turns | None:
        # None until the app is there, and where it is another one than ours.
        return getattr(getattr(self, "wsgi", None), "extensions", {}).get("turns")

    def _drop(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    def _in_hand(self) -> int:
        """Return how many requests have a thread."""
        without = len(self.keepalived_conns) + len(self._reading) + len(self._lingering)
        return self.nr_conns - without

    # Signs of life

    def init_process(self) -> None:
        ready_by = time.monotonic() + BOOT
        os.utime(self.tmp.fileno(), (ready_by, ready_by))
        super().init_process()

    def notify(self) -> None:
        """Give the master a sign of life, unless an image hangs in the model."""
        if not (self._turns and self._turns.hung()):
            super().notify()

    def handle_abort(self, sig: signal.Signals, frame) -> None:
        """Answer the master, which has missed a sign of life: who can answer is not hung."""
        before = self.tmp.last_update()
        self.notify()
        if self.tmp.last_update() == before:
            super().handle_abort(sig, frame)

    @property
    def aborted(self) -> bool:
        """Whether the master asked this worker a moment ago; if so, it kills it now.

        A machine that stood still for seconds must not cost the images in hand.
        """
        return WARNING[0] <= time.monotonic() - self._asked < WARNING[1]

    @aborted.setter
    def aborted(self, asked: bool) -> None:
        if asked:
            self._asked = time.monotonic()


def _answer(status: int, code: str, message: str, retry_after: int | None = None) -> bytes:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    head = (
        f"HTTP/1.1 {status} {code.replace('_', ' ').title()}\r\n"
        "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    )
    if retry_after:
        head += f"Retry-After: {retry_after}\r\n"
    return f"{head}\r\n".encode() + body
