"""A reader follows a page to the letter: its commands run in a clean copy of the project."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.support.documents import DOCUMENTS, Block, blocks
from tests.support.folders import draw_data
from tests.support.pet_series import write_series
from tumour_segmenter.contract import encode_png
from tumour_segmenter.phantom import phantom, volume

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("git"), reason="needs git"),
    pytest.mark.skipif(not shutil.which("make"), reason="needs make"),
]
ELSEWHERE = {"api.md"}  # its examples run in test_docs, where their answers are looked at
BASH = ["bash", "-euo", "pipefail", "-c"]
PATIENCE = 60  # seconds


def commands(document: Path) -> list[Block]:
    return [block for block in blocks(document, "sh") if block.runs]


PAGES = [path for path in DOCUMENTS if path.name not in ELSEWHERE and commands(path)]


def link(source: str, target: str) -> None:
    """Have the same content at both; nothing in the project writes into a file in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@pytest.fixture
def clone(tmp_path) -> Path:
    """The project's files and nothing else, with its environments, and what a reader has."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(listed, cwd=PROJECT, text=True).split("\0")
    root = tmp_path / "tumour-segmenter"
    for name in filter(None, names):
        if (PROJECT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            link(PROJECT / name, root / name)
    for name in (".venv", ".venv-bench", ".venv-dev"):
        add_environment(root / name)
    draw_data(root / "data", patients=2, controls=2, size=(489, 400))
    suv, _, spacing = volume()
    coarse = tuple(2 * size for size in spacing)
    write_series(root / "study", suv=suv[::-2, ::2, ::2], spacing=coarse)  # from the feet up
    for folder in ("FOLDER", "images"):
        (root / folder).mkdir()
        (root / folder / "scan.png").write_bytes(encode_png(phantom(300, 400)[0]))
    return root


def add_environment(folder: Path) -> None:
    """Make the running interpreter's environment the one that make would make."""
    folder.mkdir()
    (folder / "bin").symlink_to(Path(sys.executable).parent)
    for name in ("lib", "pyvenv.cfg"):
        if (Path(sys.prefix) / name).exists():
            (folder / name).symlink_to(Path(sys.prefix) / name)
    (folder / "installed").touch()


def serve(code: str, folder: Path, environ: dict[str, str], log: Path) -> subprocess.Popen:
    """Start a server as the page does, and return once it says that it is ready."""
    with log.open("w") as file:
        server = subprocess.Popen(
            [*BASH, code],
            cwd=folder,
            env=environ,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    end = time.monotonic() + PATIENCE
    while "Ready: http://127.0.0.1:" not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    return server


def stop(server: subprocess.Popen) -> None:
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(PATIENCE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_of_a_page_run_in_their_order(page, clone, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    environ = os.environ | {"PORT": port, "WORKERS": "1"}
    environ.pop("MODEL", None)
    with ExitStack() as servers:
        for block in commands(page):
            code = block.code.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            if block.mark == "server":
                server = serve(code, clone, environ, tmp_path / "server.log")
                servers.callback(stop, server)
                continue
            run = subprocess.run(
                [*BASH, code], cwd=clone, env=environ, capture_output=True, text=True, timeout=120
            )
            assert run.returncode == 0, f"{code}\n{run.stdout}\n{run.stderr}"


def test_every_page_that_shows_commands_has_some_that_run():
    ways = {"README.md", "challenge.md", "own-scans.md", "operations.md"}
    assert ways <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_of_the_shell(page):
    for block in blocks(page, "sh"):
        run = subprocess.run(["bash", "-n", "-c", block.code], capture_output=True, text=True)
        assert run.returncode == 0, f"{block.code}\n{run.stderr}"
