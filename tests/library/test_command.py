"""How commands end: codes, one line for each fault, and nobody who reads their output."""

import errno
import os
import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from tumour_segmenter.command import exit_code
from tumour_segmenter.errors import SettingsError, UsageError

FULL = OSError(errno.ENOSPC, "No space left on device", "a.csv")


def raising(error: BaseException):
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "also", "code", "line"),
    [
        (UsageError("no such file"), (), 2, "name: no such file\n"),
        (SettingsError("PORT"), (), 2, "name: PORT\n"),
        (ValueError("not a number"), (ValueError,), 2, "name: not a number\n"),
        (FULL, (), 1, "name: the disk is full: a.csv could not be written\n"),
        (FULL, (OSError,), 2, "name: the disk is full: a.csv could not be written\n"),
        (KeyboardInterrupt(), (), 130, "interrupted\n"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(capsys, error, also, code, line):
    ended = exit_code(raising(error), *also, name="name", interrupted=lambda: "interrupted")
    assert (ended, capsys.readouterr().err) == (code, line)


def test_work_s_own_code_is_returned():
    assert [exit_code(lambda code=code: code) for code in (0, 1)] == [0, 1]


def test_a_fault_of_our_own_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_code(raising(ZeroDivisionError()))


def test_interruption_says_nothing_unless_asked_to(capsys):
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


def closed_pipe() -> int:
    """Return the end of a pipe that is written to; nobody reads the other one."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")], ids=" ".join)
def test_work_is_finished_though_nobody_reads(tmp_path, closed, unbuffered):
    code = f"""
import sys
from tumour_segmenter.command import exit_code
def work():
    for number in range(3000):  # more than a pipe and its buffers hold
        print("line", number)
        print("line", number, file=sys.stderr)
    open({os.fspath(tmp_path / "done")!r}, "w").close()
    return 7
sys.exit(exit_code(work))
"""
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    streams |= {name: closed_pipe() for name in closed}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        text=True,
        **streams,
    )
    for name in closed:
        os.close(streams[name])
    assert ended.returncode == 7
    assert (tmp_path / "done").exists()
    for name in {"stdout", "stderr"} - set(closed):
        assert getattr(ended, name) == "".join(f"line {number}\n" for number in range(3000))


@pytest.mark.parametrize("closed", ["1", "2"])
def test_output_that_is_closed_from_the_start_is_no_fault(tmp_path, closed):
    code = f"""
import sys
from tumour_segmenter.command import exit_code
from tumour_segmenter.progress import bar, say
def work():
    for _ in bar([1, 2], desc="working", unit="numbers"):
        print("a line")
        say("another line")
    open({os.fspath(tmp_path / "done")!r}, "w").close()
    return 0
sys.exit(exit_code(work))
"""
    command = f'"$0" -c "$1" {closed}>&-'
    ended = subprocess.run(["sh", "-c", command, sys.executable, code], cwd=PROJECT)
    assert ended.returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("module", ["tumour_segmenter", "serve", "scan"])
def test_help_that_nobody_reads_is_no_fault(module):
    writer = closed_pipe()
    ended = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")
