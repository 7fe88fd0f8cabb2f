"""The container's own install and command: a clean environment, a read-only folder, gunicorn."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PROJECT, SHIPPED, write_artifact, write_checksum
from tests.deploy.test_dockerfile import instructions
from tests.support import environments
from tumour_segmenter.contract import check_mask, decode, encode
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline

pytestmark = pytest.mark.slow

COMMAND = json.loads(instructions("CMD")[0])
PIXELS, _ = phantom()
BODY = json.dumps({"img": encode(PIXELS)})


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Path:
    """Return the bin folder of an environment that holds the serving requirements, no more."""
    lines = (PROJECT / "requirements-serve.in").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    return environments.make(tmp_path_factory.mktemp("serving") / "venv", pins) / "bin"


MODEL = SHIPPED.relative_to(PROJECT)  # what is served by default on this CPU


@pytest.fixture
def project(tmp_path) -> Path:
    """Return a copy of what the Dockerfile copies, with a tiny model, that cannot be written to."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(PROJECT / "gunicorn.conf.py", folder)
    for name in ("tumour_segmenter", "serve"):
        shutil.copytree(PROJECT / name, folder / name, ignore=lambda *_: ["__pycache__"])
    (folder / "artifacts").mkdir()
    write_artifact(folder / MODEL)
    lock(folder)
    yield folder
    lock(folder, locked=False)


def lock(folder: Path, locked: bool = True) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod((0o555 if path.is_dir() else 0o444) if locked else 0o755)


class Server:
    """A running gunicorn."""

    def __init__(self, bin_folder: Path, folder: Path, **variables: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        home = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.variables = {**home, "HOST": "127.0.0.1", "PORT": str(self.port), **variables}
        self.process = subprocess.Popen(
            [bin_folder / COMMAND[0], *COMMAND[1:]],
            cwd=folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log = ""

    def ask(self, method: str, path: str, body=None, headers=None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.load(response)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/healthz/ready")[0] == 200:
                    return
            time.sleep(0.05)
        self.stop()
        pytest.fail(f"the server did not become ready:\n{self.log}")

    def log_of_requests(self) -> list[dict]:
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds: float = 60) -> int:
        try:
            self.log += self.process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.log += self.process.communicate()[0]
        return self.process.returncode


@contextlib.contextmanager
def running(environment, project, **variables):
    server = Server(environment, project, **variables)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_environment_holds_no_training_packages(environment):
    code = "import importlib.util as u; print([n for n in ('torch', 'onnx') if u.find_spec(n)])"
    assert subprocess.check_output([environment / "python", "-c", code], text=True) == "[]\n"


def test_round_trip_from_a_read_only_folder(environment, project):
    before = files(project)
    with running(environment, project) as server:
        status, answer = server.ask("POST", "/predict", BODY)
        assert status == 200
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["img"]))))
        check_mask(mask, PIXELS.shape)
        np.testing.assert_array_equal(mask[..., 0], Baseline()(PIXELS))
        assert server.ask("GET", "/api")[1]["model"]["name"] == "tiny"
        assert server.ask("GET", "/nope")[0] == 404
    assert server.process.returncode == 0
    assert files(project) == before
    assert any(
        line["path"] == "/predict" and line["status"] == 200 for line in server.log_of_requests()
    )
    assert "WARNING" not in server.log


def test_health_check_of_the_container(environment, project):
    check = json.loads(re.search(r"CMD (\[.*\])", instructions("HEALTHCHECK")[0])[1])
    with running(environment, project) as server:

        def health() -> int:
            command = [environment / check[0], *check[1:]]
            return subprocess.run(command, env=server.variables, stderr=subprocess.PIPE).returncode

        assert health() == 0
        server.stop()
        assert health() != 0


def test_baseline_is_served_without_a_model_file(environment, project):
    lock(project, locked=False)
    shutil.rmtree(project / "artifacts")
    with running(environment, project, MODEL="baseline") as server:
        status, answer = server.ask("POST", "/predict", BODY)
        assert status == 200
        np.testing.assert_array_equal(decode(answer["img"]), Baseline()(PIXELS))


@pytest.mark.parametrize("model", ["", str(SHIPPED)], ids=["tiny", "shipped"])
def test_two_workers_give_the_same_bytes(environment, project, model):
    server = Server(environment, project, WORKERS="2", MODEL=model)
    workers, answers = [], []
    try:
        while len(workers) < 2:  # the master tells both before the first can be ready
            line = server.process.stdout.readline()
            assert line, server.log
            server.log += line
            workers += [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", line)]
        server.wait_until_ready()
        for halted in workers:
            os.kill(halted, signal.SIGSTOP)
            answers.append(server.ask("POST", "/predict", BODY))
            os.kill(halted, signal.SIGCONT)
    finally:
        server.stop()
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def test_client_hears_why_its_large_body_was_refused(environment, project):
    body = b"x" * 5_000_000
    chunked = {"Transfer-Encoding": "chunked"}
    with running(environment, project, MAX_PIXELS="1000") as server:
        for path, headers, expected in [
            ("/predict", {}, 413),
            ("/predict", {"Connection": "close"}, 413),
            ("/predict", chunked, 411),
            ("/predct", {}, 404),
            ("/api", {}, 405),
        ]:
            framed = iter([b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)])
            sent = framed if headers is chunked else body
            status, answer = server.ask("POST", path, sent, headers)
            assert status == expected
            assert answer["error"]["message"]
        assert server.ask("GET", "/healthz/ready")[0] == 200


# A server that cannot serve says so and ends


def remove(model: Path) -> None:
    model.unlink()


def alter(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-10])


def replace(model: Path) -> None:
    model.write_bytes(b"\x08\x0a\x12no model at all")  # as an ONNX file begins
    write_checksum(model)


def rename_output(model: Path) -> None:
    write_artifact(model, names=("pixels", "logits"))


def break_mask(model: Path) -> None:
    write_artifact(model, highest=1)


@pytest.mark.parametrize(
    ("damage", "advice"),
    [
        (remove, "git checkout"),
        (alter, "git checkout"),
        (replace, "export it again"),
        (rename_output, "python -m export"),
        (break_mask, "export it again"),
    ],
)
def test_model_that_cannot_be_served_ends_the_server(environment, project, damage, advice):
    lock(project, locked=False)
    damage(project / MODEL)
    server = Server(environment, project, WORKERS="2")
    assert server.wait(60) not in (0, -signal.SIGKILL)  # it ends by itself
    (error,) = [line for line in server.log.splitlines() if line.startswith("error: ")]
    assert "model" in error
    assert advice in error
    assert "Traceback" not in server.log


@pytest.mark.parametrize("variables", [{"PORT": "http"}, {"WORKERS": "0"}, {"MAX_PIXELS": "4MP"}])
def test_bad_setting_ends_the_server(environment, project, variables):
    server = Server(environment, project, **variables)
    assert server.wait() == 1
    ((name, value),) = variables.items()
    assert server.log.startswith(f"error: {name}='{value}' is not a whole number from 1 to ")
    assert server.log.count("\n") == 1


def test_flask_s_own_server_runs_too(environment, project):
    code = "from flask.cli import ScriptInfo as S; S('serve.app').load_app().test_client()"
    variables = {**os.environ, "MODEL": "baseline", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([environment / "python", "-c", code], cwd=project, env=variables)
    assert run.returncode == 0
