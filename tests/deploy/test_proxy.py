"""The proxy to the open internet, as compose.yaml has it: nginx with its own configuration."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.settings import Settings
from tests.conftest import PROJECT, write_artifact
from tests.support.clients import Clients
from tests.support.hanging import BLACK, WHITE
from tests.support.serving import (
    ask_raw,
    body_of,
    connect,
    post,
    read_answer,
    request_of,
    serving,
    together,
    wait,
)
from tests.support.slow_model import lasting, write_slow_artifact
from tumour_segmenter import client

pytestmark = pytest.mark.slow

TEMPLATE = PROJECT / "deploy" / "nginx.conf.template"
DEFAULTS = {"DEADLINE": "9", "MAX_PIXELS": "4000000", "TRUSTED_PROXY": "127.0.0.1"}
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed (apt install nginx)")


def filled_in(**variables: str) -> str:
    """The configuration as the image's start script makes it, by envsubst with a list of names."""
    values = DEFAULTS | variables
    text = TEMPLATE.read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(values)
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)


@contextlib.contextmanager
def proxy_before(url: str, folder: Path, **variables: str) -> Iterator[str]:
    """Run an nginx in front of the server at `url`; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = filled_in(**variables)
    for there, here in {
        "/tmp/": f"{folder}/",
        "/dev/stdout": f"{folder}/access.log",
        "app:8000": url.removeprefix("http://"),
        "listen 8080": f"listen 127.0.0.1:{port}",
    }.items():
        assert there in text
        text = text.replace(there, here)
    (folder / "nginx.conf").write_text(text)
    as_user = "user root; " if os.geteuid() == 0 else ""  # the folder is for nobody else
    command = [NGINX, "-e", "stderr", "-c", folder / "nginx.conf", "-g", as_user + "daemon off;"]
    with open(folder / "error.log", "wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        wait(lambda: (folder / "nginx.pid").is_file() and (folder / "nginx.pid").stat().st_size)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = write_slow_artifact(tmp_path_factory.mktemp("slow") / "model.onnx")
    with serving(model, WORKERS="2") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory):
    with proxy_before(server.url, tmp_path_factory.mktemp("nginx")) as url:
        yield url


@needs_nginx
def test_image_goes_through_under_one_id(server, proxy):
    status, headers, body = ask_raw(proxy, request_of(body_of(lasting(255))))
    assert status == 200
    assert json.loads(body)["img"]
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    time.sleep(0.1)
    assert any(headers["x-request-id"] in line for line in server.log())


@needs_nginx
@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400),
        (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
    ],
)
def test_what_is_refused_at_the_gate_has_the_same_shape(proxy, request_bytes, expected):
    status, _, body = ask_raw(proxy, request_bytes)
    assert status == expected
    assert sorted(json.loads(body)["error"]) == ["code", "message"]


@needs_nginx
def test_slow_clients_keep_nobody_out(proxy):
    whole = request_of(body_of(lasting(255)))
    with contextlib.ExitStack() as open_sockets:
        for i in range(400):
            sock = open_sockets.enter_context(connect(proxy))
            sock.sendall(whole[: [10, 60, len(whole) // 2, 0][i % 4]])
        for _ in range(5):
            assert post(proxy, lasting(255)).status == 200


@needs_nginx
def test_worker_that_is_killed_loses_only_what_it_had_in_flight(server, proxy):
    with Clients(proxy) as clients:
        for _ in range(3):
            clients.wait_for(10)
            before = server.workers()
            os.kill(before[0], signal.SIGKILL)
            wait(lambda before=before: len(set(server.workers()) | set(before)) == 3)
        clients.wait_for(10)
    # Each client can have had one image with each dead worker.
    assert len(clients.faults()) <= 3 * 3
    assert all("502" in fault for fault in clients.faults())


@needs_nginx
def test_image_that_kills_its_worker_is_not_sent_to_another(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.host.server.COMMAND", ["gunicorn", "tests.support.deadly:app"])
    with serving("baseline", WORKERS="2") as server, proxy_before(server.url, tmp_path) as url:
        wait(lambda: len(server.ready_workers()) == 2)
        before = server.workers()
        status, headers, body = ask_raw(url, request_of(body_of(BLACK)))
        assert (status, headers["retry-after"]) == (502, "1")
        assert json.loads(body)["error"]["code"] == "proxy_502"
        wait(lambda: set(server.ready_workers()) != set(before) and len(server.workers()) == 2)
        assert len(set(before) & set(server.workers())) == 1
        assert post(url, WHITE).status == 200


@needs_nginx
def test_recycled_workers_lose_nothing_here(tmp_path):
    model = write_artifact(tmp_path / "model.onnx")
    recycle = {"GUNICORN_CMD_ARGS": "--max-requests 3 --max-requests-jitter 3"}
    with (
        serving(model, WORKERS="2", **recycle) as server,
        proxy_before(server.url, tmp_path) as url,
    ):
        first = server.workers()
        with Clients(url) as clients:
            wait(lambda: not set(first) & set(server.workers()))
            clients.wait_for(60)
    assert not clients.faults()


@needs_nginx
def test_client_may_send_more_requests_over_its_connection(proxy):
    with connect(proxy) as sock:
        for _ in range(3):
            sock.sendall(request_of(body_of(lasting(255))))
            assert read_answer(sock)[0] == 200
    assert client.ask(proxy, "/healthz/ready").status == 200


@pytest.fixture(scope="module")
def late_server():
    """The address of a server that takes five seconds for an answer."""

    def answer(sock: socket.socket) -> None:
        with sock:
            sock.recv(65_536)
            time.sleep(5)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@needs_nginx
def test_waits_as_long_as_the_deadline_and_a_little_longer(late_server, tmp_path):
    (tmp_path / "short").mkdir()
    (tmp_path / "long").mkdir()
    with (
        proxy_before(late_server, tmp_path / "short", DEADLINE="1") as short,
        proxy_before(late_server, tmp_path / "long", DEADLINE="3600") as long,
    ):
        answers = together(
            lambda: client.ask(short, "/api", timeout=20), lambda: client.ask(long, "/api")
        )
    assert [answer.status for answer in answers] == [504, 200]


@pytest.mark.parametrize("max_pixels", [200_000, 4_000_000, 100_000_000])
def test_lets_through_what_the_server_takes(max_pixels):
    text = filled_in(MAX_PIXELS=str(max_pixels))
    limit = int(re.search(r"client_max_body_size (\d+);", text)[1])
    assert limit > Settings.read({"MAX_PIXELS": str(max_pixels), "MODEL": "baseline"}).max_body


def logged_client(server, proxy: str, source: str, *headers: bytes) -> str:
    """Whom the server's log names for a request to `proxy` from the address `source`."""
    port = int(proxy.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0)) as sock:
        lines = [b"GET /api HTTP/1.1", b"Host: x", *headers]
        sock.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        status, answered, _ = read_answer(sock)
    assert status == 200
    mine = f'"id": "{answered["x-request-id"]}"'
    wait(lambda: any(mine in line for line in server.log()))
    return next(json.loads(line)["client"] for line in server.log() if mine in line)


@needs_nginx
def test_log_names_the_client_and_not_the_proxy(server, proxy):
    forged = b"X-Forwarded-For: 203.0.113.9"
    assert logged_client(server, proxy, "127.0.0.2") == "127.0.0.2"
    assert logged_client(server, proxy, "127.0.0.2", forged) == "127.0.0.2"
    # 127.0.0.1 stands for the proxy with TLS on the same machine.
    assert logged_client(server, proxy, "127.0.0.1", forged) == "203.0.113.9"
    # Whoever reaches the server itself from elsewhere is not believed.
    assert logged_client(server, server.url, "127.0.0.2", forged) == "127.0.0.2"
