"""Images of patients call nobody: no connection outside, no file in the home folder.

onnxruntime reports to its vendor unless it is told not to, or finds itself in a build server (CI).
So these processes get an environment without anything that could hide that.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tumour_segmenter.contract import encode_png
from tumour_segmenter.phantom import phantom

LIBRARY = """
import numpy
from tumour_segmenter import load
segment = load()
print(segment(numpy.zeros((9, 9), numpy.uint8)).sum())
"""
# What would happen without us: the vendor's library alone.
BARE = "import onnxruntime, os; onnxruntime.InferenceSession(os.environ['MODEL'])"
LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


class Watched:
    """A process in an environment of its own: where it connects to, and what it leaves at home."""

    def __init__(self, command: list, home: Path, **variables: str) -> None:
        home.mkdir()
        self.home, self.outside = home, set()
        environ = {"HOME": os.fspath(home), "PATH": os.environ["PATH"], **variables}
        self.process = subprocess.Popen(
            command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, start_new_session=True
        )
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()

    def _look(self) -> None:
        while not self._ended.is_set():
            self.outside |= connections(self.process.pid)
            time.sleep(0.002)

    def end(self) -> list[str]:
        """Wait until it ended, and return what it left at home."""
        self.process.communicate(timeout=120)
        self._ended.set()
        self._watch.join()
        return [os.fspath(p.relative_to(self.home)) for p in self.home.rglob("*") if p.is_file()]


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def connections(pid: int) -> set[str]:
    """Return the addresses outside this machine that a process and its children have sockets to."""
    inodes = set()
    for one in family(pid):
        with suppress(OSError):
            for file in os.listdir(f"/proc/{one}/fd"):
                with suppress(OSError):  # closed meanwhile
                    link = os.readlink(f"/proc/{one}/fd/{file}")
                    if link.startswith("socket:["):
                        inodes.add(link[8:-1])
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6") if inodes else ():
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address = fields[2].partition(":")[0]
            if fields[9] in inodes and address.strip("0") and address not in LOOPBACK:
                found.add(f"{name} {fields[2]}")
    return found


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encode_png(phantom(120, 100, seed=number)[0]))
    return folder


def test_this_test_would_see_it(artifact, tmp_path):
    """Without the switch the library leaves a device's identity at home."""
    watched = Watched([sys.executable, "-c", BARE], tmp_path / "home", MODEL=os.fspath(artifact))
    assert watched.end() != []


def test_connection_would_be_seen():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # sends nothing: an address of the documentation
        assert connections(os.getpid()) == {"udp 010200C0:0009"}


@pytest.mark.parametrize("surroundings", [{}, {"ORT_DISABLE_TELEMETRY": "0"}])
@pytest.mark.parametrize("entry", ["predict", "library"])
def test_command_and_library_call_nobody(artifact, images, tmp_path, entry, surroundings):
    out = os.fspath(tmp_path / "out")
    command = {
        "predict": [
            "-m",
            "tumour_segmenter",
            "predict",
            os.fspath(images),
            "--out",
            out,
            "--jobs",
            "1",
        ],
        "library": ["-c", LIBRARY],
    }[entry]
    variables = {"MODEL": os.fspath(artifact), **surroundings}
    watched = Watched([sys.executable, *command], tmp_path / "home", **variables)
    assert watched.end() == []
    assert watched.process.returncode == 0
    assert watched.outside == set()


@pytest.mark.slow
def test_server_calls_nobody(artifact, images, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    watched = Watched(
        [sys.executable, "-m", "gunicorn", "serve.app:app"],
        tmp_path / "home",
        MODEL=os.fspath(artifact),
        HOST="127.0.0.1",
        PORT=str(port),
        WORKERS="2",
        ORT_DISABLE_TELEMETRY="0",
    )
    try:
        wait_for(port)
        body = json.dumps({"img": base64.b64encode((images / "0.png").read_bytes()).decode()})
        for _ in range(4):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/predict",
                body.encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
        time.sleep(2)
    finally:
        watched.process.terminate()
        left = watched.end()
    assert left == []
    assert watched.outside == set()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz/ready", timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
