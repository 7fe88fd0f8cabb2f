"""What clients can do to the connection itself: be slow, be silent, be wrong."""

import json
import select
import threading
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest

from serve.body import BUDGET, Budget
from serve.queue import Overloaded
from tests.support.serving import ask_raw, body_of, connect, post, read_answer, request_of, serving
from tests.support.slow_model import lasting, write_slow_artifact
from tumour_segmenter import client
from tumour_segmenter.contract import decode

pytestmark = pytest.mark.slow

QUICK = lasting(255)
BODY = body_of(QUICK)
DEADLINE = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = write_slow_artifact(tmp_path_factory.mktemp("slow") / "model.onnx")
    with serving(model, WORKERS="2", DEADLINE=str(DEADLINE)) as server:
        yield server


def assert_serves(url):
    reply = post(url, QUICK)
    assert reply.status == 200
    mask = decode(json.loads(reply.body)["img"])
    np.testing.assert_array_equal(mask, np.where(QUICK < 50, 255, 0))


def test_slow_and_dead_clients_keep_nobody_out(server):
    whole = request_of(BODY)
    half_sent = [connect(server.url) for _ in range(200)]
    slow = [connect(server.url) for _ in range(200)]
    stop = threading.Event()

    def trickle():
        for at in range(len(whole)):
            for sock in slow:
                try:
                    sock.sendall(whole[at : at + 1])
                except OSError:  # its time was over
                    continue
            if stop.wait(1):
                return

    thread = threading.Thread(target=trickle)
    try:
        for i, sock in enumerate(half_sent):
            sock.sendall(whole[: [0, 10, 50, len(whole) // 2][i % 4]])
        thread.start()
        for _ in range(10):
            assert_serves(server.url)
            assert client.ask(server.url, "/healthz/ready", timeout=10).status == 200
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
        for sock in half_sent + slow:
            sock.close()
    assert_serves(server.url)


def test_large_bodies_under_way_hold_bounded_memory_and_keep_nobody_out(tmp_path):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 15000000\r\n\r\n"
    model, much = write_slow_artifact(tmp_path / "model.onnx"), b"A" * 2**20
    with serving(model, WORKERS="1", DEADLINE="30") as server, ExitStack() as stack:
        idle = sum(server.memory_mb())
        socks = [stack.enter_context(connect(server.url)) for _ in range(400)]
        for sock in socks:
            sock.sendall(head)
            sock.setblocking(False)
        statuses, most = set(), 0.0
        for _ in range(8):
            for sock in socks:
                with suppress(OSError):
                    sock.send(much)
            most = max(most, sum(server.memory_mb()) - idle)
            statuses.add(post(server.url, QUICK).status)
        assert statuses == {200}
        assert most < 2 * BUDGET / 1e6
        told = [sock for sock in socks if answered(sock)]
        assert told
        for sock in told[:5]:
            sock.settimeout(30)
            status, _, body = read_answer(sock)
            assert status == 503
            assert "large bodies" in json.loads(body)["error"]["message"]


def test_refused_bodies_hold_no_memory():
    """The key is wrong, so what the clients send is dropped, and most of it never comes."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    with serving("baseline", WORKERS="1", API_KEY="key") as server, ExitStack() as stack:
        idle = sum(server.memory_mb())
        socks = [stack.enter_context(connect(server.url)) for _ in range(400)]
        for sock in socks:
            sock.sendall(head)
        assert {read_answer(sock)[0] for sock in socks} == {401}
        for sock in socks:
            sock.sendall(b"A" * 65_500)  # nearly a piece of 64 KiB, and a whole one would be held
        most = max(sum(server.memory_mb()) - idle for _ in range(20) if not time.sleep(0.05))
        assert most < 14  # what all of them have sent is 26


def test_large_body_that_comes_fast_holds_up_nobody():
    body = b'{"img": "' + b"A" * 60_000_000 + b'"}'
    with serving("baseline", WORKERS="1", MAX_PIXELS="100000000", DEADLINE="60") as server:
        shares = []
        for _ in range(3):  # the machine may have held up the others meanwhile
            taken, waited = [], []

            def send(taken=taken):
                taken.append(client.ask(server.url, "/predict", body, 60))

            thread = threading.Thread(target=send)
            thread.start()
            while thread.is_alive():
                waited.append(client.ask(server.url, "/healthz/live", timeout=60).seconds)
            thread.join()
            assert taken[0].status == 400
            shares.append(max(waited) / taken[0].seconds)
        assert min(shares) < 0.55


def answered(sock) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def test_body_that_is_too_much_beyond_the_budget_is_refused():
    budget = Budget(100)
    with budget.reader() as large, budget.reader() as small, budget.reader() as late:
        large(90)
        small(9)
        late(30)  # within its share, though the budget is used up
        with pytest.raises(Overloaded):
            large(1)
    with budget.reader() as alone:
        alone(100)


def test_request_that_does_not_arrive_in_time_is_told(server):
    start = time.monotonic()
    with connect(server.url) as sock:
        sock.sendall(request_of(BODY)[:-10])
        status, headers, answer = read_answer(sock)
        assert (status, headers["connection"]) == (408, "close")
        assert json.loads(answer)["error"]["code"] == "request_timeout"
        assert time.monotonic() - start > DEADLINE / 2


@pytest.mark.parametrize("sent", [b"", request_of(BODY)[:40]], ids=["silent", "half a head"])
def test_connection_without_a_request_is_closed(server, sent):
    with connect(server.url) as sock:
        sock.sendall(sent)
        assert sock.recv(1) == b""


def test_request_in_pieces_is_put_together(server):
    whole = request_of(BODY)
    with connect(server.url) as sock:
        for piece in (whole[:1], whole[1:30], whole[30:-5], whole[-5:]):
            sock.sendall(piece)
            time.sleep(0.05)
        assert read_answer(sock)[0] == 200


def test_requests_sent_without_waiting_are_answered_in_order(server):
    get = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n"
    missing = request_of(b"x" * 100_000, path=b"/nope")
    with connect(server.url) as sock:
        sock.sendall(get + request_of(BODY) + missing + get + request_of(BODY)[:-7])
        assert [read_answer(sock)[0] for _ in range(4)] == [200, 200, 404, 200]
        sock.sendall(BODY[-7:] + get)
        assert [read_answer(sock)[0] for _ in range(2)] == [200, 200]


def test_connection_of_a_lone_client_is_kept(server):
    with connect(server.url) as sock:
        for _ in range(3):
            sock.sendall(request_of(BODY))
            status, headers, _ = read_answer(sock)
            assert (status, headers["connection"]) == (200, "keep-alive")


def test_client_that_asks_before_it_sends_is_told_to_go_on(server):
    with connect(server.url) as sock:
        head = request_of(BODY, b"Expect: 100-continue")[: -len(BODY)]
        sock.sendall(head)
        assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY)
        assert read_answer(sock)[0] == 200


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"Content-Length: 999999999", 413),
        (b"Content-Length: 999999999\r\nExpect: 100-continue", 413),
        (b"Transfer-Encoding: chunked", 411),
    ],
)
def test_what_will_be_refused_is_not_waited_for(server, head, expected):
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\nabc"
    start = time.monotonic()
    status, headers, body = ask_raw(server.url, request)
    assert time.monotonic() - start < DEADLINE / 2
    assert (status, headers["connection"]) == (expected, "close")
    assert "message" in json.loads(body)["error"]


POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED, 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED, 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
        (POST + b"Content-Length: +5\r\n\r\nhello", 400),
        (POST + b"Content-Length: -5\r\n\r\nhello", 400),
        (POST + b"Content-Length: 0x5\r\n\r\nhello", 400),
        (POST + b"Content-Length : 5\r\n\r\nhello", 400),
        (POST.replace(b"\r\n", b"\n") + b"Content-Length: 5\n\nhello", 400),
        (POST + b"Content-Length: 5\nX: y\r\n\r\nhello", 400),
        (POST + b"Transfer-Encoding: identity\r\n\r\nhello", 400),
        (POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 400),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED, 400),
        (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKED, 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED, 400),
        (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + CHUNKED, 400),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED, 400),
        (POST + b"X: a\r\n b\r\n\r\n", 400),
        (POST + b"X: a\0b\r\n\r\n", 400),
        (POST + b"Host: y\r\n\r\n", 400),
        (b"POST /predict HTTP/9.9\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 40_000, 414),
        (POST + b"".join(b"X%d: y\r\n" % i for i in range(200)) + b"\r\n", 431),
        (POST + b"X: " + b"y" * 9_000 + b"\r\n\r\n", 431),
        (POST + b"X: y\r\n" * 60 + b"\r\n", 431),
    ],
)
def test_request_with_two_meanings_is_refused(server, request_bytes, expected):
    # What follows must never be taken for a request of its own.
    with connect(server.url) as sock:
        sock.sendall(request_bytes)
        status, headers, body = read_answer(sock)
        assert (status, headers["connection"]) == (expected, "close")
        assert sorted(json.loads(body)["error"]) == ["code", "message"]
        assert sock.recv(1) == b""
    assert_serves(server.url)


def test_log_is_one_line_of_json_a_request_and_holds_no_image(server):
    secret = json.loads(BODY)["img"][40:70]
    with connect(server.url) as sock:  # too short a length makes a request line of an image
        sock.sendall(request_of(BODY[:5]) + BODY[5:] + b"\r\n\r\n")
        assert [read_answer(sock)[0] for _ in range(2)] == [400, 400]
    client.ask(server.url, "/predict?img=" + secret, BODY, 30)
    client.ask(server.url, '/nope"\\' + "a" * 1000, None, 30)
    time.sleep(0.2)
    lines = [json.loads(line) for line in server.log() if line.startswith("{")]
    good = next(line for line in reversed(lines) if line["status"] == 200)
    assert (good["method"], good["path"]) == ("POST", "/predict")
    assert (good["height"], good["width"]) == QUICK.shape
    assert good["bytes_in"] == len(BODY)
    for fact in ("id", "time", "client", "ms", "bytes_out", "decode_ms", "wait_ms", "run_ms"):
        assert good[fact]
    assert lines[-1]["path"].startswith('/nope"\\')
    assert len(lines[-1]["path"]) <= 200
    assert secret not in "\n".join(server.log())
    assert "Traceback" not in "\n".join(server.log())
