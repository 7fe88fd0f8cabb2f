"""Whichever way gunicorn is started: the same server, or one line that says what to do."""

import os
import re
import socket
import subprocess
import sys
import time

import pytest

from benchmarks.asking import client
from tests.conftest import PROJECT, write_artifact

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
        log = self.process.communicate(timeout=90)[0]
        assert "Traceback" not in log
        (error,) = [line for line in log.splitlines() if line.startswith("error: ")]
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
