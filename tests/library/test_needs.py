"""Commands in an environment that lacks their packages: one line, and no traceback."""

import subprocess
import sys
import venv

import pytest

from tests.conftest import PROJECT
from tumour_segmenter import needs
from tumour_segmenter.errors import UsageError

COMMANDS = {
    ("-m", "tumour_segmenter", "--version"): "serve",
    ("-m", "serve", "--help"): "serve",
    ("-m", "scan", "--help"): "serve",
    ("-m", "train.fit", "--help"): "train",
    ("-m", "export", "--help"): "train",
    ("benchmarks/latency.py", "--help"): "benchmarks",
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder)
    return folder / "bin" / "python"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_missing_package_is_one_line_that_says_what_to_do(bare, command):
    done = subprocess.run([bare, *command], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: not installed in {bare.parent.parent}: numpy, ")
    requirements = PROJECT / f"requirements-{COMMANDS[command]}.txt"
    assert line.endswith(f"; install it: {bare} -m pip install -r {requirements}")


def test_outside_of_an_environment_the_make_target_is_named(monkeypatch):
    monkeypatch.setattr("sys.prefix", sys.base_prefix)
    assert needs.how_to_install("scan") == "use .venv/bin/python, which `make serve-env` makes"
    assert "`make dev-env`" in needs.how_to_install("train")


def test_an_installed_package_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(needs, "PROJECT", tmp_path)
    with pytest.raises(UsageError, match=r"pip install 'tumour-segmenter\[metrics\]'"):
        needs.require("metrics", "nothing_of_that_name")
