"""The command line itself: the programs behind it, and what it says of options."""

import os
import subprocess
import sys

import pytest

from serve.settings import VARIABLES
from tests.conftest import PROJECT
from tumour_segmenter.cli import main as cli


class Became(Exception):
    """Stands for a process that is another program from now on."""


@pytest.mark.parametrize("door", ["serve", "scan"])
@pytest.mark.parametrize("is_installed", [True, False])
def test_other_programs_get_the_words_that_follow(monkeypatch, door, is_installed):
    def execv(path, words):
        raise Became(path, *words)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(cli, "find_spec", lambda name: is_installed or None)
    with pytest.raises(Became) as became:
        cli.main([door, "study", "--out", "results"])
    module = f"tumour_segmenter.{door}" if is_installed else door
    command = (sys.executable, "-m", module, "study", "--out", "results")
    assert became.value.args == (sys.executable, *command)


def test_help_names_every_program(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    printed = capsys.readouterr().out
    assert {"predict", "merge", "serve", "scan"} <= set(printed.split())


def serve_command(*options: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tumour_segmenter", "serve", *options],
        cwd=PROJECT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


def test_serve_tells_what_is_wrong_in_one_line():
    done = serve_command(PORT="http")
    assert done.returncode == 2
    assert done.stderr.startswith("error: PORT='http' is not a whole number")
    assert len(done.stderr.splitlines()) == 1


def test_unknown_option_says_that_settings_are_environment_variables(tmp_path, capsys):
    words = "unknown: --model mine.onnx; settings are environment variables"
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(tmp_path), "--out", str(tmp_path), "--model", "mine.onnx"])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert "usage: tumour-segmenter predict" in printed
    assert words in printed
    done = serve_command("--model", "mine.onnx")
    assert done.returncode == 2
    assert "usage: tumour-segmenter serve" in done.stderr
    assert words in done.stderr


def test_help_of_serve_lists_every_setting():
    printed = serve_command("--help").stdout
    for variable in VARIABLES:
        assert variable.name in printed
        assert variable.help in printed
