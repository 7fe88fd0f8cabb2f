"""Whichever way gunicorn is started: the same server, or one line that says what to do."""

import os
import re
import socket
import subprocess
import sys
import time

import pytest

from tests.conftest import PROJECT, write_artifact
from tumour_segmenter import client

pytestmark = pytest.mark.slow

CONFIGURATION = os.fspath(PROJECT / "gunicorn.conf.py")


class Started:
    """gunicorn with `arguments`, started in `folder`, which ends with the block."""

    def __init__(self, folder, *arguments, **variables) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        chosen = {"MODEL": "baseline", "HOST": "127.0.0.1", "PORT": port, "WORKERS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gunicorn", *arguments],
            cwd=folder,
            env=os.environ | chosen | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()

    def is_ready(self) -> bool:
        end = time.monotonic() + 90
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return client.ask(self.url, "/healthz/ready", timeout=30).status == 200
            except client.Unanswered:
                time.sleep(0.1)
        return False

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=90)[0]

    def fails(self) -> tuple[int, str]:
        """The exit code of a server that ends by itself, and the one line that says why."""
        self.log = self.process.communicate(timeout=90)[0]
        assert "Traceback" not in self.log
        (error,) = [line for line in self.log.splitlines() if line.startswith("error: ")]
        return self.process.returncode, error


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", CONFIGURATION, "serve.app:app"],
        ["-c", CONFIGURATION],
        ["--chdir", os.fspath(PROJECT), "-c", CONFIGURATION, "serve.app:app"],
        ["-c", CONFIGURATION, "--preload"],
    ],
    ids=["-c", "-c alone", "--chdir -c", "--preload"],
)
def test_the_configuration_is_found_from_another_folder(tmp_path, arguments):
    with Started(tmp_path, *arguments) as server:
        assert server.is_ready()
        assert "Using worker: serve.worker.Worker" in server.stop()


@pytest.mark.parametrize("option", ["--chdir", "--pythonpath"])
def test_gunicorn_without_the_configuration_is_told_how(tmp_path, option):
    with Started(tmp_path, option, os.fspath(PROJECT), "serve.app:app") as server:
        code, error = server.fails()
    assert code == 4
    assert f"gunicorn -c {CONFIGURATION} serve.app:app" in error


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_other_workers_serve_and_say_what_they_lack(tmp_path, worker):
    with Started(tmp_path, "-c", CONFIGURATION, "--worker-class", worker) as server:
        assert server.is_ready()
        log = server.stop()
    assert f"Using worker: {worker}" in log
    assert "Not the worker of this server" in log


def test_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Started(tmp_path, "-c", CONFIGURATION, PORT=str(port)) as server:
            code, error = server.fails()
    assert code == 1
    assert re.search(rf"port {port} .* is in use.* PORT=", error)


def test_address_of_another_machine_is_named(tmp_path):
    with Started(tmp_path, "-c", CONFIGURATION, HOST="192.0.2.1") as server:
        code, error = server.fails()
    assert code == 1
    assert "192.0.2.1" in error
    assert "HOST=" in error


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_address_of_ipv6_is_served_and_printed_in_brackets(tmp_path, host):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with Started(tmp_path, "-c", CONFIGURATION, HOST=host) as server:
        server.url = server.url.replace("127.0.0.1", "[::1]")
        assert server.is_ready()
        assert f"Ready: {server.url}\n" in server.stop()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("host", "everyone"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_start_tells_where_people_find_the_server_and_who_does(tmp_path, host, everyone):
    with Started(tmp_path, "-c", CONFIGURATION, HOST=host) as server:
        assert server.is_ready()
        (line,) = [line for line in server.stop().splitlines() if "Ready: " in line]
    assert server.url in line
    assert ("for the whole network; HOST=127.0.0.1" in line) == everyone


@pytest.mark.parametrize("host", ["http://0.0.0.0", "[::1", "nobody.invalid"])
def test_host_that_is_none_is_told_in_one_line(tmp_path, host):
    with Started(tmp_path, "-c", CONFIGURATION, HOST=host) as server:
        code, error = server.fails()
    assert code == 1
    assert host in error
    assert "HOST=" in error


SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"# Read me\n", "is no ONNX file"),
        (SAFETENSORS, "is no ONNX file"),
        (b"\x08\x0a\x12 begins as an ONNX file does", "export it again"),
    ],
)
def test_what_is_no_model_is_told_before_the_port_opens(tmp_path, content, advice):
    model = tmp_path / "README.md"
    model.write_bytes(content)
    for _ in range(2):
        with Started(tmp_path, "-c", CONFIGURATION, MODEL=os.fspath(model)) as server:
            code, error = server.fails()
        assert code == 1
        assert "Listening" not in server.log
        if "make it: " in error:  # who obeys is told the rest
            subprocess.run(error.partition("make it: ")[2], shell=True, check=True)
    assert str(model) in error
    assert advice in error


def test_worker_that_cannot_open_the_model_once_does_not_end_the_server(tmp_path):
    tried = tmp_path / "tried"
    arguments = ["-c", CONFIGURATION, "tests.support.forgetful:app"]
    with Started(tmp_path, *arguments, FORGETFUL=os.fspath(tried)) as server:
        assert server.is_ready()
        log = server.stop()
    assert tried.exists()
    (error,) = [line for line in log.splitlines() if line.startswith("error: ")]
    assert "no memory" in error
    assert server.process.returncode == 0


def test_model_without_a_checksum_is_told_the_command(tmp_path):
    model = write_artifact(tmp_path / "my model.onnx")
    checksum = model.with_name("my model.onnx.sha256")
    checksum.unlink()
    with Started(tmp_path, "-c", CONFIGURATION, MODEL=os.fspath(model)) as server:
        _, error = server.fails()
    command = error.partition("make it: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert checksum.exists()
    with Started(tmp_path, "-c", CONFIGURATION, MODEL=os.fspath(model)) as server:
        assert server.is_ready()
