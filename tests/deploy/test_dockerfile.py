"""The container, as far as it can be checked without an engine; test_server.py runs the rest."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tests.conftest import PROJECT
from tumour_segmenter.model_file import FILES

LINES = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.split(None, 1)[1] for line in LINES if line.startswith(name + " ")]


SOURCES = [source for copy in instructions("COPY") for source in copy.split()[:-1]]


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_copied_exists_and_reaches_the_build(source):
    assert list(PROJECT.glob(source))
    assert f"!{source}" in (PROJECT / ".dockerignore").read_text().splitlines()


def test_everything_serving_needs_is_copied():
    models = {f"artifacts/{path.name}{end}" for path in FILES.values() for end in ("", ".sha256")}
    needed = {"tumour_segmenter", "serve", "gunicorn.conf.py"}
    needed |= {"requirements-serve.txt", "requirements-metrics.txt"}
    copied = {str(path.relative_to(PROJECT)) for s in SOURCES for path in PROJECT.glob(s)}
    assert needed | models <= copied


def test_no_other_model_gets_into_the_image():
    models = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("artifacts/**/*.onnx")}
    copied = {source for source in SOURCES if source.endswith(".onnx")}
    assert models == copied == {f"artifacts/{path.name}" for path in FILES.values()}


def test_command_is_the_one_the_tests_run():
    assert json.loads(instructions("CMD")[0]) == ["gunicorn", "serve.app:app"]


def test_base_is_slim_and_pinned():
    (base,) = instructions("FROM")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)


def test_only_serving_requirements_are_installed():
    (install,) = instructions("RUN")
    found = re.findall(r"requirements-\w+\.txt", install)
    assert found == ["requirements-serve.txt", "requirements-metrics.txt"]


def test_metrics_are_one_more_package_with_a_pin():
    lines = (PROJECT / "requirements-metrics.txt").read_text().splitlines()
    (package,) = [line for line in lines if not line.startswith("#")]
    assert re.fullmatch(r"prometheus_client==[\d.]+", package)


def test_server_calls_nobody():
    assert "ORT_DISABLE_TELEMETRY=1" in instructions("ENV")[0].split()


# The health check


@pytest.fixture(scope="module")
def fake_server():
    """The port of a server whose readiness is `ready.status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(ready.status if self.path == "/healthz/ready" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    ready = SimpleNamespace(status=200)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ready.port = str(server.server_port)
        yield ready
        server.shutdown()


def health(**variables: str) -> int:
    command = json.loads(re.search(r"CMD (\[.*\])", instructions("HEALTHCHECK")[0])[1])
    assert command[0] == "python"
    environ = {"PATH": os.environ["PATH"]} | variables
    run = [sys.executable, *command[1:]]
    done = subprocess.run(run, cwd=PROJECT, env=environ, capture_output=True, text=True)
    assert len(done.stderr.splitlines()) == (done.returncode != 0)
    return done.returncode


NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"http_proxy": NOBODY, "https_proxy": NOBODY, "HTTP_PROXY": NOBODY, "all_proxy": NOBODY},
        {"HOST": "0.0.0.0"},
        {"HOST": "127.0.0.1"},
        {"HOST": " "},
        {"HOST": "::"},
    ],
    ids=str,
)
def test_health_check_finds_the_server(fake_server, variables):
    assert health(PORT=fake_server.port, **variables) == 0


def test_health_check_fails_with_one_line(fake_server):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    assert health(PORT=port) == 1
    fake_server.status = 503
    try:
        assert health(PORT=fake_server.port) == 1
    finally:
        fake_server.status = 200


def test_user_is_not_root():
    (user,) = instructions("USER")
    assert not re.match(r"(root|0)\b", user)


def test_serving_requirements_are_pinned_and_light():
    lines = (PROJECT / "requirements-serve.in").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert {name for name, _ in pins} == {
        "flask",
        "gevent",
        "gunicorn",
        "numpy",
        "onnxruntime",
        "pillow",
        "tqdm",
    }
    assert all(re.fullmatch(r"[\d.]+", version) for _, version in pins)
    installed = (PROJECT / "requirements-serve.txt").read_text()
    for name, version in pins:
        assert f"\n{name}=={version} \\\n    --hash=sha256:" in installed
    assert not re.search(r"^(torch|onnx)\b(?!runtime)", installed, re.MULTILINE)


def test_all_that_is_installed_for_serving_has_its_hashes():
    text = (PROJECT / "requirements-serve.txt").read_text().replace("\\\n", "")
    packages = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(packages) > 5
    for package in packages:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( +--hash=sha256:[0-9a-f]{64})+", package)
