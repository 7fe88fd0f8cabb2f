"""The container, as far as it can be checked without an engine; test_server.py runs the rest."""

import json
import re

import pytest

from tests.conftest import PROJECT, SHIPPED

LINES = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.split(None, 1)[1] for line in LINES if line.startswith(name + " ")]


SOURCES = [source for copy in instructions("COPY") for source in copy.split()[:-1]]


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_copied_exists_and_reaches_the_build(source):
    assert (PROJECT / source).exists()
    assert f"!{source}" in (PROJECT / ".dockerignore").read_text().splitlines()


def test_everything_serving_needs_is_copied():
    models = {f"artifacts/{path.name}" for path in SHIPPED}
    checksums = {f"{model}.sha256" for model in models}
    needed = {"serve", "gunicorn.conf.py", "requirements-serve.txt"}
    assert needed | models | checksums <= set(SOURCES)


def test_command_is_the_one_the_tests_run():
    assert json.loads(instructions("CMD")[0]) == ["gunicorn", "serve.app:app"]


def test_base_is_slim_and_pinned():
    (base,) = instructions("FROM")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)


def test_only_serving_requirements_are_installed():
    (install,) = instructions("RUN")
    assert re.findall(r"requirements-\w+\.txt", install) == ["requirements-serve.txt"]


def test_user_is_not_root():
    (user,) = instructions("USER")
    assert not re.match(r"(root|0)\b", user)


def test_serving_requirements_are_pinned_and_light():
    lines = (PROJECT / "requirements-serve.in").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert {name for name, _ in pins} == {"flask", "gunicorn", "numpy", "onnxruntime", "pillow"}
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
