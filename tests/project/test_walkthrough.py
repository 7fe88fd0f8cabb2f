"""A reader follows a page to the letter: its commands run in a clean copy of the project."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.support import environments
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


def copy(root: Path) -> None:
    """Copy the project's files, and nothing that only its makers have, into the folder `root`."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(listed, cwd=PROJECT, text=True).split("\0")
    for name in filter(None, names):
        if (PROJECT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            link(PROJECT / name, root / name)


def bring_files(root: Path) -> None:
    """Make what a reader of the pages has: data of the challenge, a PET series, images."""
    draw_data(root / "data", patients=2, controls=2, size=(489, 400))
    suv, _, spacing = volume()
    coarse = tuple(2 * size for size in spacing)
    write_series(root / "study", suv=suv[::-2, ::2, ::2], spacing=coarse)  # from the feet up
    for folder in ("FOLDER", "images"):
        (root / folder).mkdir()
        (root / folder / "scan.png").write_bytes(encode_png(phantom(300, 400)[0]))


def make_environments(root: Path, page: Path) -> None:
    """Make the environments of `make serve-env` and `make bench-env`, and install what `page` says:
    they have no other package."""
    makefile = (root / "Makefile").read_text()
    said = "".join(block.code for block in blocks(page, "sh"))
    for name in (".venv", ".venv-bench"):
        needed = re.search(rf"^\{name}/installed: (.*)", makefile, re.MULTILINE)[1].split()
        needed += re.findall(rf"^\{name}/bin/pip install -r (\S+)", said, re.MULTILINE)
        lines = "\n".join((root / file).read_text() for file in needed).splitlines()
        pins = [line.split()[0] for line in lines if re.match(r"[\w-]+==", line)]
        environments.make(root / name, pins)
        (root / name / "installed").touch()


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
def test_commands_of_a_page_run_in_their_order(page, tmp_path):
    clone = tmp_path / "tumour-segmenter"
    copy(clone)
    bring_files(clone)
    make_environments(clone, page)
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
