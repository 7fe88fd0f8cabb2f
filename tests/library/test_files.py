"""Files are whole or not there, and no output is an input."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tumour_segmenter import files
from tumour_segmenter.errors import UsageError


def test_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.replacing(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "old"
        partial.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def interrupted(path, error):
    with files.replacing(path) as partial:
        partial.write_text("half")
        raise error("no")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        interrupted(path, error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_killed_in_the_middle_leaves_the_old_file(tmp_path):
    """The process is killed once its data are on their way: a fifth of them are written."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = f"""
import os, pathlib, signal
import tumour_segmenter.files
def write_bytes(self, data):
    with open(self, "wb", 0) as file:
        file.write(data[: len(data) // 5])
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.write_bytes = write_bytes
tumour_segmenter.files.write(pathlib.Path({os.fspath(path)!r}), b"new" * 1000)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (left,) = set(os.listdir(tmp_path)) - {"a.bin"}
    files.remove_stale(tmp_path)
    assert left in os.listdir(tmp_path)  # it could belong to a process that still writes
    hour_ago = time.time() - 2 * files.STALE
    os.utime(tmp_path / left, (hour_ago, hour_ago))
    files.remove_stale(tmp_path)
    assert os.listdir(tmp_path) == ["a.bin"]


def test_data_are_on_the_disk_before_the_new_name(tmp_path, monkeypatch):
    """After a power cut the name must not stand for what never reached the disk."""
    path, seen = tmp_path / "a.txt", []
    path.write_text("old")

    def fsync(descriptor):
        seen.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size, path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write(path, "newer")
    # Renamed, not copied: it is the same file that was brought to the disk.
    assert seen == [(path.stat().st_ino, 5, "old")]


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "a" * 255, "ä" * 125 + ".png"])
def test_longest_names_can_be_written(tmp_path, name):
    files.write(tmp_path / name, "text")
    assert os.listdir(tmp_path) == [name]


def test_temporary_name_keeps_the_ending_that_writers_go_by(tmp_path):
    with files.replacing(tmp_path / "a.png") as partial:
        assert partial.suffix == ".png"
        assert partial.name.startswith(".")
        partial.touch()


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with files.replacing(path) as one, files.replacing(path) as two:
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_error_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(OSError, match="missing") as caught:
        files.write(tmp_path / "missing" / "a.txt", "")
    assert files.reason(caught.value) == f"{tmp_path}/missing/a.txt: No such file or directory"


def write_to_full_disk(path):
    with files.replacing(path) as partial:
        partial.symlink_to("/dev/full")
        partial.write_bytes(b"x" * 100_000)


def test_full_disk_is_called_that(tmp_path):
    with pytest.raises(OSError, match="left") as caught:
        write_to_full_disk(tmp_path / "a")
    assert files.reason(caught.value) == f"the disk is full: {tmp_path}/a could not be written"
    assert os.listdir(tmp_path) == []


def test_device_is_written_to_directly():
    files.write(Path("/dev/null"), "x")
    assert not Path("/dev/null").is_file()


def test_outputs_may_be_anything_new(tmp_path):
    (tmp_path / "in").touch()
    files.check_outputs([tmp_path / "in"], [tmp_path / "a", tmp_path / "b"])


def test_output_that_is_an_input_is_refused(tmp_path):
    image = tmp_path / "image.png"
    image.touch()
    (tmp_path / "link").symlink_to(image)
    os.link(image, tmp_path / "hard")
    (tmp_path / "folder").symlink_to(tmp_path)
    for output in (image, tmp_path / "link", tmp_path / "hard", tmp_path / "folder/image.png"):
        with pytest.raises(UsageError, match=r"would be written over an input"):
            files.check_outputs([image], [output])
    with pytest.raises(UsageError, match="is the same file"):
        files.check_outputs([tmp_path / "link"], [image])


def test_output_that_is_another_output_is_refused(tmp_path):
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")  # a link to what is not there yet
    for second in ("a", "folder/a", "b", "folder/../" + tmp_path.name + "/a"):
        with pytest.raises(UsageError, match="written twice"):
            files.check_outputs([], [tmp_path / "a", tmp_path / second])


def test_links_in_a_circle_are_no_traceback(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    files.check_outputs([tmp_path / "a"], [tmp_path / "c"])
