"""`predict` as processes: several at once, killed, interrupted, with nobody who reads."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PROJECT
from tests.support import fatal_work
from tests.support.fake_server import fake_server
from tests.support.predicting import NOTE, PIXELS, masks, names, predict
from tumour_segmenter.cli import batch
from tumour_segmenter.cli import main as cli
from tumour_segmenter.cli.batch import Plan
from tumour_segmenter.cli.tasks import Provenance, Task
from tumour_segmenter.contract import check_mask, decode_png, encode, encode_png
from tumour_segmenter.segmenter import Baseline

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "tumour_segmenter"]
PROVENANCE = Provenance("model", "version", "")


def test_folder_becomes_masks(folder, tmp_path, capsys):
    out = tmp_path / "new" / "masks"
    assert cli.main(["predict", str(folder), "--out", str(out), "--jobs", "2"]) == 0
    assert names(out) == {"scan_0.png", "scan_1.png", "scan_2.png"}
    for pixels, mask in zip(PIXELS, masks(out), strict=True):
        np.testing.assert_array_equal(mask, Baseline()(pixels))
    check_mask(np.asarray(Image.open(out / "scan_0.png")), PIXELS[0].shape)
    printed = capsys.readouterr()
    assert printed.out == "3 masks written, 0 were there before, 0 failed\n"
    assert printed.err == NOTE


def test_table_may_be_a_pipe(folder, tmp_path):
    command = [*COMMAND, "predict", folder, "--out", tmp_path / "out"]
    command += ["--jobs", "1"]
    printed = subprocess.run([*command, "--csv", "/dev/stderr"], cwd=PROJECT, capture_output=True)
    assert printed.returncode == 0
    assert b"\nimage,mask," in printed.stderr


def test_reader_that_has_enough_stops_nothing(folder, tmp_path, monkeypatch):
    """As with `| head`: the summary comes before the table is written."""
    monkeypatch.setenv("MODEL", "baseline")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    table = tmp_path / "a.csv"
    command = [*COMMAND, "predict", folder, "--out", tmp_path / "out", "--csv", table]
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [*command, "--jobs", "1"], cwd=PROJECT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, NOTE)
    assert len(table.read_text().splitlines()) == 4
    for pixels, mask in zip(PIXELS, masks(tmp_path / "out"), strict=True):
        np.testing.assert_array_equal(mask, Baseline()(pixels))


def test_shards_do_each_image_once_and_their_tables_make_one(folder, tmp_path, capsys):
    for number in range(9):
        (folder / f"more_{number}.png").write_bytes(encode_png(PIXELS[0]))
    out, together = tmp_path / "out", tmp_path / "all.csv"
    tables = [tmp_path / f"{shard}.csv" for shard in range(3)]
    command = [*COMMAND, "predict", folder, "--out", out, "--jobs", "1"]
    processes = [
        subprocess.Popen([*command, "--csv", table, "--shard", f"{shard}/3"], cwd=PROJECT)
        for shard, table in enumerate(tables)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(names(out)) == 12
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    merge = ["merge", *map(str, tables), "--out", str(together)]
    capsys.readouterr()
    assert cli.main([*merge, "--expect", str(folder)]) == 0
    assert capsys.readouterr().out == "12 rows of 3 tables\n"
    rows = list(csv.DictReader(together.read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(p) for p in sorted(folder.glob("*.png"))]
    assert {row["shard"] for row in rows} == {"0/3", "1/3", "2/3"}
    for shard in range(3):  # again, which costs nothing
        assert predict(folder, "--out", out, "--shard", f"{shard}/3") == 0
        printed = capsys.readouterr().out
        assert f"shard {shard}/3: " in printed
        assert "0 masks written" in printed
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    os.unlink(tables[1])
    del merge[2]
    assert cli.main(merge) == 1
    assert capsys.readouterr().err == "error: no rows of 1 of 3 shards: 1/3\n"


def test_two_workers_on_the_same_files_do_no_harm(folder, tmp_path):
    out = tmp_path / "out"
    command = [
        *COMMAND,
        "predict",
        folder,
        "--out",
        out,
        "--overlay",
        "--probability",
        "--jobs",
        "1",
    ]
    processes = [subprocess.Popen(command, cwd=PROJECT) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(names(out)) == 9
    for pixels, mask in zip(PIXELS, masks(out), strict=True):
        np.testing.assert_array_equal(mask, Baseline()(pixels))


def test_image_that_kills_its_process_is_the_only_one_that_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "work", fatal_work.dies_of_scan_1)
    tasks = [Task(Path(f"scan_{number}.png"), tmp_path) for number in range(6)]
    found = list(batch.outcomes(tasks, Plan("baseline", 1, 1), PROVENANCE, 1))
    assert sorted(outcome.task.image.name for outcome in found) == sorted(
        task.image.name for task in tasks
    )
    (failed,) = [outcome for outcome in found if outcome.fault]
    assert failed.task.image.name == "scan_1.png"
    assert "a worker process died" in failed.fault
    assert not failed.fatal


def test_processes_that_die_of_anything_end_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "work", fatal_work.always_dies)
    tasks = [Task(Path(f"scan_{number}.png"), tmp_path) for number in range(5)]
    found = list(islice(batch.outcomes(tasks, Plan("baseline", 1, 1), PROVENANCE, 1), 3))
    assert [outcome.fatal for outcome in found] == [False, False, True]


def test_only_a_few_tasks_are_handed_out_ahead(monkeypatch, tmp_path):
    """A million images must not need more memory than a thousand."""
    monkeypatch.setattr(batch, "work", fatal_work.at_once)
    taken = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield Task(Path(str(number)), tmp_path)

    for done, _ in enumerate(batch.outcomes(tasks(), Plan("baseline", 1, 1), PROVENANCE, 2), 1):
        assert len(taken) <= done + 2 * batch.AHEAD * 2
    assert done == 100


def run(folder: Path, out: Path, url: str) -> subprocess.Popen:
    """Start the command in a process of its own, and return once its first mask is there."""
    command = [*COMMAND, "predict", folder, "--out", out, "--url", url, "--jobs", "2"]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Tests that run in the background have SIGINT ignored, which a child would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (out.is_dir() and any(out.glob("*.png"))) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    return process


IMAGES = 20


@pytest.fixture
def many(tmp_path) -> Path:
    """Return a folder with more images than are done before anyone can interrupt."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(IMAGES):
        (folder / f"{number:03d}.png").write_bytes(encode_png(PIXELS[0]))
    return folder


@pytest.fixture
def slow_server() -> Iterator[str]:
    """The URL of a model that takes its time without taking the processor."""

    def answer(image: np.ndarray) -> bytes:
        time.sleep(0.05)
        return json.dumps({"img": encode(Baseline()(image[..., 0]))}).encode()

    about = {"model": {"name": "slow"}, "version": "1"}
    with fake_server(answer, pages={"/api": about}) as url:
        yield url


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_interruption_keeps_what_was_done(many, tmp_path, interrupt, slow_server):
    process = run(many, tmp_path / "out", slow_server)
    process.send_signal(interrupt)
    printed, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complained == "interrupted; the same command goes on from here\n"
    done = len(names(tmp_path / "out"))
    assert 0 < done < IMAGES
    assert printed == f"{done} masks written, 0 were there before, 0 failed\n"


def test_kill_leaves_no_half_file_and_no_process(many, tmp_path, slow_server, in_this_process):
    out = tmp_path / "out"
    process = run(many, out, slow_server)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 2
    assert not any(is_running(child) for child in children)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    expected = Baseline()(PIXELS[0])
    for path in kept:
        np.testing.assert_array_equal(decode_png(path.read_bytes()), expected)
    assert 0 < len(kept) < IMAGES
    assert predict(many, "--out", out, "--url", slow_server) == 0
    assert len(list(out.glob("*.png"))) == IMAGES
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
