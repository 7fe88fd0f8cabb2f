"""The gate to the open internet, as compose.yaml has it: nginx with its own configuration."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from benchmarks import client
from tests.conftest import PROJECT
from tests.serving import ask_raw, body_of, connect, post, read_answer, request_of, serving
from tests.slow_model import lasting, write_slow_artifact
from tests.test_crashes import Load, wait

CONFIGURATION = PROJECT / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed (apt install nginx)")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = write_slow_artifact(tmp_path_factory.mktemp("slow") / "model.onnx")
    with serving(model, WORKERS="2") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory):
    """The address of an nginx in front of the server."""
    folder = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = CONFIGURATION.read_text()
    for there, here in {
        "/tmp/": f"{folder}/",
        "/dev/stdout": f"{folder}/access.log",
        "app:8000": server.url.removeprefix("http://"),
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
def test_worker_that_is_killed_loses_nothing_here(server, proxy):
    with Load(proxy, 3) as load:
        for kill in range(3):
            load.wait_for(10 * (kill + 1))
            before = server.workers()
            os.kill(before[0], signal.SIGKILL)
            wait(lambda before=before: len(set(server.workers()) | set(before)) == 3)
        load.wait_for(45)
    assert set(load.got) == {"200"}


@needs_nginx
def test_client_may_send_more_requests_over_its_connection(proxy):
    with connect(proxy) as sock:
        for _ in range(3):
            sock.sendall(request_of(body_of(lasting(255))))
            assert read_answer(sock)[0] == 200
    assert client.ask(proxy, "/healthz/ready").status == 200


def test_compose_file_names_what_there_is():
    text = (PROJECT / "compose.yaml").read_text()
    for name in re.findall(r"\./([\w./-]+):", text):
        assert (PROJECT / name).is_file()
    assert text.count("read_only: true") == 2
    assert text.count("restart: unless-stopped") == 2
    assert text.count('user: "') == 2
    assert re.findall(r'user: "(\d+):', text) != ["0", "0"]
