"""The one HTTP client: deadlines, keys, redirects, proxies, and what counts as an answer."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image

from tests.support.fake_server import fake_server, perfect
from tumour_segmenter import client
from tumour_segmenter.contract import encode
from tumour_segmenter.errors import ContractError, UsageError

PIXELS = np.full((30, 20), 200, np.uint8)
PIXELS[5:9, 5:10] = 10
MASK = np.where(PIXELS < 100, np.uint8(255), np.uint8(0))
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "no_proxy", "NO_PROXY", *PROXIES):
        monkeypatch.delenv(name, raising=False)


def ask_for_mask(url: str) -> np.ndarray:
    return client.RemoteSegmenter(url)(PIXELS)


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that does what `talk` does with its first connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            wire, _ = listener.accept()
            with wire:
                wire.settimeout(10)
                with suppress(OSError):  # the client hung up, as it may
                    talk(wire)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


# Answers


def test_a_server_has_the_same_call_as_a_model_here() -> None:
    with fake_server(perfect) as url:
        found = client.RemoteSegmenter(url + "/").run(PIXELS)
        np.testing.assert_array_equal(found.mask, MASK)
        assert found.probability is None


def grey_png(pixels: np.ndarray) -> str:
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()


def test_operating_point_and_probability_are_asked_for() -> None:
    asked = []

    def answer(image: np.ndarray, request: dict) -> bytes:
        asked.append({name: value for name, value in request.items() if name != "img"})
        return json.dumps({"img": encode(MASK), "probability": grey_png(PIXELS)}).encode()

    with fake_server(answer) as url:
        found = client.RemoteSegmenter(url).run(PIXELS, "specific", probability=True)
        client.RemoteSegmenter(url).run(PIXELS)
    np.testing.assert_array_equal(found.mask, MASK)
    np.testing.assert_array_equal(found.probability, PIXELS)
    assert asked == [{"operating_point": "specific", "probability": True}, {}]


@pytest.mark.parametrize("probability", [None, encode(MASK), grey_png(PIXELS[1:])])
def test_a_probability_that_is_none_is_refused(probability: str | None) -> None:
    body = json.dumps({"img": encode(MASK), "probability": probability}).encode()
    with fake_server(lambda _: body) as url, pytest.raises(ContractError, match="probability"):
        client.RemoteSegmenter(url).run(PIXELS, probability=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"{}",
        b"[]",
        b'{"img": "!"}',
        b'{"img": "aGVsbG8="}',
        b'{"img": "%s"}' % encode(MASK[1:]).encode(),
        b'{"img": "%s"}' % encode(PIXELS).encode(),
        b'{"img": "%s"}' % grey_png(MASK).encode(),
    ],
    ids=["HTML", "none", "list", "no base64", "no PNG", "size", "not only 0 and 255", "channels"],
)
def test_an_answer_that_is_no_mask_is_refused(answer: bytes) -> None:
    with fake_server(lambda _: answer) as url, pytest.raises(ContractError):
        ask_for_mask(url)


def test_a_mask_that_claims_to_be_huge_is_not_unpacked() -> None:
    png = bytearray(base64.b64decode(encode(MASK)))
    png[16:24] = b"\x00\x01\x00\x00" * 2
    body = json.dumps({"img": base64.b64encode(png).decode()}).encode()
    with fake_server(lambda _: body) as url, pytest.raises(ContractError):
        ask_for_mask(url)


def test_what_the_server_says_is_passed_on() -> None:
    body = b'{"error": {"code": "no", "message": "this image is not wanted"}}'
    with (
        fake_server(lambda _: body, status=422) as url,
        pytest.raises(ContractError, match="the server answered 422: this image is not wanted"),
    ):
        ask_for_mask(url)


# Time


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_an_answer_that_drips_is_late(begin: bytes) -> None:
    """The deadline is for the whole answer: bytes that keep coming do not move it."""

    def drip(wire: socket.socket) -> None:
        wire.recv(1000)
        wire.sendall(begin)
        for _ in range(50):
            wire.sendall(b"x")
            time.sleep(0.02)

    with raw_server(drip) as url:
        start = time.perf_counter()
        with pytest.raises(client.Late, match=r"no answer within 0.15 s"):
            client.ask(url, "/", timeout=0.15)
        assert time.perf_counter() - start < 1


def test_an_answer_that_breaks_off_is_none() -> None:
    def break_off(wire: socket.socket) -> None:
        wire.recv(1000)
        wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}")

    with raw_server(break_off) as url, pytest.raises(client.Unanswered, match="IncompleteRead"):
        client.ask(url, "/")


def test_an_empty_answer_is_one() -> None:
    def empty(wire: socket.socket) -> None:
        wire.recv(1000)
        wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with raw_server(empty) as url:
        assert client.ask(url, "/").body == b""


def test_nobody_there_is_no_answer() -> None:
    with fake_server(perfect) as url:
        pass
    with pytest.raises(client.Unanswered, match="ConnectionRefused"):
        client.ask(url, "/")
    with pytest.raises(UsageError, match="no server answers at"):
        client.check(url)


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    replies = [client.Reply(503, b"", 0, {"Retry-After": after}) for after in ("7", "x", "9999")]
    real = client.ask
    monkeypatch.setattr(client, "ask", lambda *given: replies.pop(0) if replies else real(*given))
    with fake_server(perfect) as url:
        np.testing.assert_array_equal(ask_for_mask(url), MASK)
    assert waited == [7, 2, client.LONGEST_WAIT]


def test_a_server_that_stays_busy_is_given_up() -> None:
    asked: list[int] = []
    busy = fake_server(lambda _: asked.append(1) or b"{}", 503, {"Retry-After": "0"})
    with busy as url, pytest.raises(ContractError, match="the server answered 503"):
        ask_for_mask(url)
    assert len(asked) == client.MOST_TRIES


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8000", "ftp://127.0.0.1", "http://[::1", "http://x:99999", "http://x:0"),
        *("http://", "", "http://user:password@127.0.0.1:8000"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    for asks in (client.check, client.RemoteSegmenter):
        with pytest.raises(UsageError, match=r"is no address such as http://127.0.0.1:8000"):
            asks(url)


@pytest.mark.parametrize("path", ["/predict", "/predict/", "/predict?x=1", "/?x=1", "/#x"])
def test_the_base_url_is_asked_for(path: str) -> None:
    with pytest.raises(UsageError, match=r"give the base URL, here http://127.0.0.1:1/?;"):
        client.check(f"http://127.0.0.1:1{path}")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:1/a/b", "https://x"])
def test_a_base_url_stays_what_it_is(url: str) -> None:
    assert client.checked_url(f" {url}/ ") == url


@pytest.mark.parametrize("status", [401, 403, 404, 301, 308])
def test_who_can_get_no_mask_is_told_before_any_image(status: int) -> None:
    asked: list[int] = []
    with (
        fake_server(lambda _: asked.append(1) or b"{}", options=status) as url,
        pytest.raises(UsageError, match=f"{status}"),
    ):
        client.check(url)
    assert not asked


@pytest.mark.parametrize("status", [200, 204, 405, 501, 500])
def test_a_server_need_not_know_options(status: int) -> None:
    """FastAPI's answer to OPTIONS is 405, that of Python's own http.server 501."""
    with fake_server(perfect, options=status) as url:
        assert client.check(url) == url


def test_ipv6_is_an_address_like_others() -> None:
    with fake_server(perfect, host="::1") as url:
        assert url.startswith("http://[::1]:")
        np.testing.assert_array_equal(client.RemoteSegmenter(client.check(url))(PIXELS), MASK)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    assert client.is_loopback(host) == expected


# Keys and redirects


@pytest.mark.parametrize("key", ["s3cret", "Schlüssel", "ключ", "鍵 mit Lücke"])
def test_any_key_that_can_be_printed_is_sent_as_utf_8(key: str, monkeypatch) -> None:
    with fake_server(perfect, key=key) as url:
        with pytest.raises(UsageError, match="wants an API key"):
            client.check(url)
        monkeypatch.setenv("API_KEY", "other")
        with pytest.raises(UsageError, match="does not take the API key"):
            client.check(url)
        monkeypatch.setenv("API_KEY", key)
        np.testing.assert_array_equal(client.RemoteSegmenter(client.check(url))(PIXELS), MASK)


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "a\x7fb", "a\udcffb"])
def test_a_key_that_no_header_can_carry_is_refused(key: str, monkeypatch) -> None:
    monkeypatch.setenv("API_KEY", key)
    with fake_server(perfect) as url, pytest.raises(UsageError, match="no HTTP header can carry"):
        client.check(url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_never_goes_beyond_the_server_that_was_named(status: int, monkeypatch) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")
    received: list[bytes] = []
    with raw_server(lambda wire: received.append(wire.recv(1000))) as other:
        moved = fake_server(perfect, status, {"Location": f"{other}/predict"})
        with moved as url:
            for asks in (client.check, ask_for_mask):
                with pytest.raises(UsageError, match=rf"redirects \({status}\).*{other} instead"):
                    asks(url)
            assert client.about(url) == {}
        with socket.create_connection(("127.0.0.1", int(other.rpartition(":")[2]))):
            pass  # ends that server
    assert received == [b""]


# Proxies


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with fake_server(perfect) as url:
        for address in (url, url.replace("127.0.0.1", "localhost")):
            np.testing.assert_array_equal(ask_for_mask(client.check(address)), MASK)


@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize("user", ["", "user:pass%20word@"])
def test_a_proxy_is_asked_for_other_machines(monkeypatch, scheme: str, user: str) -> None:
    heads: list[bytes] = []

    def proxy(wire: socket.socket) -> None:
        heads.append(wire.recv(4000))
        wire.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with raw_server(proxy) as url:
        monkeypatch.setenv("http_proxy", f"{scheme}{user}{url.removeprefix('http://')}")
        assert client.ask("http://example.invalid:81/base", "/api").status == 204
    assert heads[0].startswith(b"GET http://example.invalid:81/base/api HTTP/1.1\r\n")
    login = base64.b64encode(b"user:pass word")
    assert (b"Proxy-Authorization: Basic " + login in heads[0]) == bool(user)


def test_a_proxy_sees_neither_key_nor_image_of_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")
    heads: list[bytes] = []

    def proxy(wire: socket.socket) -> None:
        heads.append(wire.recv(4000))
        wire.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    with raw_server(proxy) as url:
        monkeypatch.setenv("https_proxy", url.replace("http://", "http://user:word@"))
        with pytest.raises(client.Unanswered, match="403"):
            client.ask("https://example.invalid", "/api", b"{}")
    assert heads[0].startswith(b"CONNECT example.invalid:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk" in heads[0]
    assert b"s3cret" not in heads[0]


def test_a_proxy_is_not_asked_for_what_no_proxy_names(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], *_: object) -> None:
        called.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.invalid")
    for url in ("http://example.invalid:81", "http://other.invalid"):
        with pytest.raises(client.Unanswered):
            client.ask(url, "/api")
    assert called == [("example.invalid", 81), ("127.0.0.1", 1)]
