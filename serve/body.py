"""The body of a request -> what it asks for, at a cost that is known beforehand."""

from __future__ import annotations

import codecs
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from flask import g, request
from werkzeug.exceptions import BadRequest, LengthRequired, RequestTimeout

from tumour_segmenter.contract import ContractError

from .queue import Overloaded, Queue, Slot
from .request_log import Stages
from .threads import raise_at, run_in_thread

EXPECTED = '{"img": "<base64 PNG>"}'
PIECE = 2**20
# Bytes that all bodies which are being read may hold, in all workers; whole images are far smaller.
BUDGET = 2**28
# An image is a single value, however large; many small ones would take many times their size.
MOST_VALUES = 10_000
# What says in a request's environment that its body was read.
READ = "serve.read"


class Posted(NamedTuple):
    """What a body says. `img` and `operating_point` are unchecked: any JSON may stand there."""

    img: Any
    operating_point: Any  # None where it does not say
    probability: bool


class Budget:
    """The memory for bodies that are being read. Where it is used up, the largest are refused, so
    that clients who send much, or slowly, keep nobody out who sends an image.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._lock = threading.Lock()
        self._held: dict[object, int] = {}

    @contextmanager
    def reader(self) -> Iterator[Callable[[int], None]]:
        """Yield what must be called with a number of bytes before they are read.

        It raises `Overloaded`.
        """
        me = object()

        def take(count: int) -> None:
            with self._lock:
                held = self._held.get(me, 0) + count
                total = sum(self._held.values()) + count
                # What is within a fair share is read in any case.
                if total > self._total and held > self._total / (len(self._held) + 1):
                    raise Overloaded("too many large bodies are under way")
                self._held[me] = held

        try:
            yield take
        finally:
            with self._lock:
                self._held.pop(me, None)


@dataclass(frozen=True)
class Intake:
    """How requests with an image come in: the body first, then a slot, then what it means."""

    queue: Queue
    budget: Budget
    deadline: int  # seconds from the head of a request to its answer

    @contextmanager
    def image(self, stages: Stages) -> Iterator[tuple[Posted, Slot]]:
        """Yield what this request asks for, and its slot, once at most one image is ahead of it.

        The slot's `until` is when the answer must be there. Raises `ContractError` or an HTTP
        error, `Overloaded` among them.
        """
        self.queue.check()  # where there is no slot no body is read
        until = g.began + self.deadline
        body = read(until, self.budget)
        stages.done("read")
        with self.queue.slot(until) as slot:
            slot.wait_to_decode()
            stages.done("wait")
            yield run_in_thread(until, parse, body, request.mimetype), slot


def read(until: float, budget: Budget) -> bytes:
    """Return the body of this request, which must be there at `until` of `time.monotonic`.

    Raises `ContractError`, `Overloaded` or an HTTP error.
    """
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        raise LengthRequired("the request must tell its Content-Length")
    if request.content_encoding not in (None, "identity"):
        raise ContractError("unsupported_encoding", "the body must be sent uncompressed", 415)
    stream, missing, pieces = request.stream, request.content_length or 0, []
    late = RequestTimeout("the request did not arrive in time")
    with raise_at(until, late), budget.reader() as take:
        while missing:
            take(min(PIECE, missing))
            if not (piece := stream.read(min(PIECE, missing))):
                raise BadRequest("the body ended before its Content-Length")
            pieces.append(piece)
            missing -= len(piece)
            time.sleep(0)  # a client that sends fast must not hold up the others
    request.environ[READ] = True
    return b"".join(pieces)


def parse(body: bytes, mimetype: str) -> Posted:
    """Return what a body that is said to be of `mimetype` asks for; raises `ContractError`."""
    try:
        # Numbers are not looked at, and an endless one is cheaper as a float.
        document = json.loads(
            _text(body),
            parse_int=float,
            parse_constant=_no_number,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError) as error:
        if mimetype.startswith(("image/", "multipart/")):
            raise ContractError(
                "unsupported_media_type",
                f"the body is {mimetype}, expected JSON, {EXPECTED}",
                415,
            ) from error
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ContractError(
            "bad_json", f"the body is not valid JSON ({why}), expected {EXPECTED}"
        ) from error
    if not isinstance(document, dict) or "img" not in document:
        raise ContractError("missing_img", f"the body holds no img, expected {EXPECTED}")
    probability = document.get("probability", False)
    if not isinstance(probability, bool):
        raise ContractError(
            "bad_probability", "probability must be true or false, or left out", 400
        )
    return Posted(document["img"], document.get("operating_point"), probability)


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands in an object twice")
    return found


def _text(body: bytes) -> str:
    """Return JSON as text in which each UTF-8 byte is a character; raise `ValueError`.

    One wide character would make all the others take four times their size. What is looked at is
    ASCII, so the others need not be right, only valid.
    """
    encoding = json.detect_encoding(body)
    if encoding == "utf-8-sig":
        body = body[3:]
    elif encoding != "utf-8":
        decoded = codecs.iterdecode(_pieces(body), encoding)
        body = b"".join(piece.encode() for piece in decoded)
    if not body.isascii():
        for _ in codecs.iterdecode(_pieces(body), "utf-8"):
            pass
    if sum(body.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    return body.decode("latin-1")


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[at : at + PIECE] for at in range(0, len(body), PIECE))
