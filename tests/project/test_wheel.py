"""The wheel: one name, the models inside, and no more packages than what is used needs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from packaging.requirements import Requirement

from tests.conftest import PROJECT
from tests.support import environments
from tumour_segmenter.contract import encode_png
from tumour_segmenter.phantom import phantom

pytestmark = pytest.mark.slow

SOURCES = ("tumour_segmenter", "serve", "scan", "artifacts")
CONFIGURATION = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build it from a copy, because what building leaves beside the sources would be found."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        shutil.copytree(
            PROJECT / name, source / name, ignore=shutil.ignore_patterns("weights", "__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    command = [sys.executable, "-c", BUILD, os.fspath(folder)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Return an environment with the wheel and what it depends on without any extra."""
    folder = tmp_path_factory.mktemp("installed")
    environments.make(folder, CONFIGURATION["dependencies"])
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-compile", wheel], check=True)
    return folder


def run(
    environment: Path, folder: Path, *command: str | Path, **variables: str
) -> subprocess.CompletedProcess:
    """Run a program of the environment in `folder`, where nothing of the repository is."""
    program, *arguments = command
    return subprocess.run(
        [environment / "bin" / program, *arguments],
        cwd=folder,
        env=clean_environment() | variables,
        capture_output=True,
        text=True,
    )


def clean_environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MODEL")
    }


def test_one_name_is_installed_with_the_models_inside(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tumour_segmenter"}
    inside = {name.split("/")[1] for name in names if name.startswith("tumour_segmenter/")}
    assert {"cli", "serve", "scan", "artifacts"} <= inside
    assert not inside & {"train", "export", "benchmarks", "deploy", "tests"}
    models = {path.name for path in (PROJECT / "artifacts").glob("*.onnx*")}
    assert "model.onnx" in models
    found = {name.rpartition("/")[2] for name in names if "/artifacts/" in name}
    assert found == models
    for folder in ("tumour_segmenter", "serve", "scan"):
        for path in (PROJECT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                inner = path.relative_to(PROJECT).as_posix()
                assert inner.removeprefix("tumour_segmenter/") in {
                    name.removeprefix("tumour_segmenter/") for name in names
                }


def test_library_and_predict_need_no_web_framework(installed, tmp_path):
    code = (
        "import sys, numpy; from tumour_segmenter import load; "
        "segment = load(); mask = segment(numpy.full((40, 30), 255, numpy.uint8)); "
        "print(mask.shape, mask.any(), segment.metadata['version'], sys.modules.keys() & "
        "{'flask', 'gevent', 'gunicorn', 'pydicom'})"
    )
    printed = run(installed, tmp_path, "python", "-c", code)
    assert printed.stderr == ""
    assert re.fullmatch(r"\(40, 30\) False \S+ set\(\)\n", printed.stdout)

    (tmp_path / "scan.png").write_bytes(encode_png(phantom(60, 50)[0]))
    command = ["tumour-segmenter", "predict", "scan.png", "--out", "masks", "--jobs", "1"]
    printed = run(installed, tmp_path, *command)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout == "1 mask written, 0 were there before, 0 failed\n"


@pytest.mark.parametrize(("door", "package"), [("serve", "flask"), ("scan", "pydicom")])
def test_what_an_extra_lacks_is_one_line_with_pip(installed, tmp_path, door, package):
    words = ["study", "--out", "results"] if door == "scan" else []
    printed = run(installed, tmp_path, "tumour-segmenter", door, *words)
    assert (printed.returncode, printed.stdout) == (2, "")
    (line,) = printed.stderr.splitlines()
    assert line.startswith("error: ")
    assert package in line
    python = installed / "bin" / "python"
    assert line.endswith(f"install it: {python} -m pip install 'tumour-segmenter[{door}]'")


@pytest.fixture
def served(installed, tmp_path) -> Iterator[str]:
    """The URL of `tumour-segmenter serve`, started in an empty folder."""
    environments.link(installed, CONFIGURATION["optional-dependencies"]["serve"])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    variables = {"HOST": "127.0.0.1", "PORT": str(port), "WORKERS": "1", "MODEL": "baseline"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [installed / "bin" / "tumour-segmenter", "serve"],
            cwd=tmp_path,
            env=clean_environment() | variables,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not is_ready(url):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        assert process.wait(30) == 0


def is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz/ready", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_serve_answers_wherever_it_is_started(installed, served, tmp_path):
    (tmp_path / "scan.png").write_bytes(encode_png(phantom(60, 50)[0]))
    command = ["predict", "scan.png", "--out", "masks", "--url", served, "--jobs", "1"]
    printed = run(installed, tmp_path, "tumour-segmenter", *command)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert (tmp_path / "masks" / "scan.png").exists()
    with urlopen(f"{served}/", timeout=5) as page:
        assert b"<html" in page.read().lower()


@pytest.mark.parametrize("extra", ["serve", "scan", "metrics", "cluster"])
def test_an_extra_names_what_its_requirements_pin(extra):
    pinned = PROJECT / (
        "requirements-serve.in" if extra == "serve" else f"requirements-{extra}.txt"
    )
    lines = [line for line in pinned.read_text().splitlines() if line and line[0] not in "# "]
    expected = {Requirement(line) for line in lines}
    named = [Requirement(text) for text in CONFIGURATION["optional-dependencies"][extra]]
    if extra == "serve":  # which holds what the library needs as well
        named += [Requirement(text) for text in CONFIGURATION["dependencies"]]
    assert {(r.name, *r.extras) for r in named} == {(r.name, *r.extras) for r in expected}
    for requirement in named:
        (pin,) = (r for r in expected if r.name == requirement.name)
        (version,) = (specifier.version for specifier in pin.specifier)
        assert requirement.specifier.contains(version), requirement
