"""Commands in an environment that lacks their packages: one line, and no traceback."""

import subprocess
import venv

import pytest

from tests.conftest import PROJECT

COMMANDS = {
    ("-m", "tumour_segmenter", "--version"): (".venv/bin/python", "serve"),
    ("-m", "scan", "--help"): (".venv/bin/python", "serve"),
    ("-m", "train.fit", "--help"): (".venv-dev/bin/python", "lint"),
    ("-m", "export", "--help"): (".venv-dev/bin/python", "lint"),
    ("benchmarks/latency.py", "--help"): (".venv-dev/bin/python", "lint"),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder)
    return folder / "bin" / "python"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_missing_package_is_one_line_that_says_what_to_do(bare, command):
    done = subprocess.run([bare, *command], cwd=PROJECT, capture_output=True, text=True)
    python, target = COMMANDS[command]
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: not installed in {bare.parent.parent}: numpy, ")
    assert line.endswith(f"; use {python}, which `make {target}` makes")
