"""`python -m serve predict`: folders of images to masks, resumed, interrupted, by a server."""

import csv
import os
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve import cli, remote
from serve.contract import ContractError, check_mask, decode_png, encode, encode_png
from serve.measure import measure
from serve.phantom import phantom
from serve.remote import RemoteSegmenter, ServerError
from serve.segmenter import Baseline
from tests.conftest import PROJECT
from tests.fake_server import fake_server

NOTE = "note: ignored files that are not named *.png: 1 (notes.txt)\n"
PIXELS = [phantom(height, 100, 3, seed=height)[0] for height in (120, 140, 260)]


@pytest.fixture(autouse=True)
def model(artifact, monkeypatch):
    monkeypatch.setenv("MODEL", os.fspath(artifact))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder with an image for each of PIXELS, and a file that is no image."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, pixels in enumerate(PIXELS):
        (folder / f"scan_{number}.png").write_bytes(encode_png(pixels))
    (folder / "notes.txt").write_text("not an image")
    return folder


def predict(*arguments: object) -> int:
    return cli.main(["predict", *map(str, arguments), "--jobs", "1"])


def masks(out: Path) -> list[np.ndarray]:
    return [decode_png(path.read_bytes()) for path in sorted(out.glob("scan_?.png"))]


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_folder_becomes_masks(folder, tmp_path, capsys):
    out = tmp_path / "new" / "masks"
    assert cli.main(["predict", str(folder), "--out", str(out), "--jobs", "2"]) == 0
    assert names(out) == {"scan_0.png", "scan_1.png", "scan_2.png"}
    for pixels, mask in zip(PIXELS, masks(out), strict=True):
        np.testing.assert_array_equal(mask, Baseline()(pixels))
    check_mask(np.asarray(Image.open(out / "scan_0.png")), PIXELS[0].shape)
    said = capsys.readouterr()
    assert said.out == "3 masks written, 0 were there before, 0 failed\n"
    assert said.err == NOTE


def test_what_is_done_is_skipped_unless_the_image_changed(folder, tmp_path, capsys):
    out = tmp_path / "out"
    predict(folder / "scan_0.png", folder / "scan_1.png", "--out", out)
    before = (out / "scan_0.png").stat().st_mtime_ns
    (folder / "scan_1.png").write_bytes(encode_png(PIXELS[2]))
    later = time.time() + 5
    os.utime(folder / "scan_1.png", (later, later))
    capsys.readouterr()
    assert predict(folder, "--out", out) == 0
    assert capsys.readouterr().out == "2 masks written, 1 was there before, 0 failed\n"
    assert (out / "scan_0.png").stat().st_mtime_ns == before
    np.testing.assert_array_equal(masks(out)[1], Baseline()(PIXELS[2]))


def test_broken_file_is_named_and_stops_nothing(folder, tmp_path, capsys):
    (folder / "a.png").write_bytes(b"\xff\xd8\xff JPEG")
    out = tmp_path / "out"
    assert predict(folder / "a.png", folder / "scan_0.png", folder / "scan_1.png", "--out", out)
    said = capsys.readouterr()
    assert said.err == f"error: {folder / 'a.png'}: expected a PNG, the image is JPEG\n"
    assert said.out == "2 masks written, 0 were there before, 1 failed\n"
    assert names(out) == {"scan_0.png", "scan_1.png"}


def test_overlay_is_coloured_where_the_mask_is(folder, tmp_path):
    out = tmp_path / "out"
    predict(folder, "--out", out)
    assert predict(folder, "--out", out, "--overlay") == 0
    for number, pixels in enumerate(PIXELS):
        picture = np.asarray(Image.open(out / f"scan_{number}_overlay.png"))
        coloured = (picture != picture[..., :1]).any(axis=2)
        np.testing.assert_array_equal(coloured, Baseline()(pixels) > 0)
        np.testing.assert_array_equal(picture[~coloured][:, 0], pixels[~coloured])


def test_table_has_a_row_for_each_image_also_when_resumed(folder, tmp_path):
    (folder / "a.png").write_bytes(b"no")
    predict(folder / "scan_1.png", "--out", tmp_path / "out")
    table = tmp_path / "tables" / "masks.csv"
    assert predict(folder, "--out", tmp_path / "out", "--csv", table) == 1
    broken, *rows = csv.DictReader(table.read_text().splitlines())
    assert broken["image"] == str(folder / "a.png")
    assert broken["fault"] == "expected a PNG, the image is something else"
    assert broken["lesions"] == ""
    for pixels, row in zip(PIXELS, rows, strict=True):
        expected = measure(pixels, Baseline()(pixels))
        assert (int(row["height"]), int(row["width"])) == pixels.shape
        assert int(row["lesions"]) == expected.lesions > 0
        assert int(row["tumour_pixels"]) == expected.tumour_pixels
        assert int(row["body_pixels"]) == np.count_nonzero(pixels < 250)
        assert float(row["share_of_body"]) == pytest.approx(expected.share_of_body, abs=1e-6)
    assert [row["ms"] == "" for row in rows] == [False, True, False]


def test_server_gives_the_same_files(folder, tmp_path, live_server):
    here, there = tmp_path / "here", tmp_path / "there"
    assert predict(folder, "--out", here, "--overlay") == 0
    assert predict(folder, "--out", there, "--overlay", "--url", live_server + "/") == 0
    assert names(here) == names(there)
    for name in names(here):
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_what_the_server_says_of_an_image_is_reported(folder, tmp_path, capsys):
    body = b'{"error": {"code": "no", "message": "this image is not wanted"}}'
    with fake_server(lambda _: body, status=422) as url:
        assert predict(folder / "scan_0.png", "--out", tmp_path / "out", "--url", url) == 1
    assert "scan_0.png: this image is not wanted\n" in capsys.readouterr().err
    assert names(tmp_path / "out") == set()


def test_busy_server_is_asked_again(monkeypatch, live_server):
    asked = []
    real = remote._open

    def busy_twice(request, timeout):
        asked.append(request.full_url)
        if len(asked) < 3:
            headers = {"Retry-After": "0"}
            raise urllib.error.HTTPError(request.full_url, 503, "busy", headers, None)
        return real(request, timeout)

    monkeypatch.setattr(remote, "_open", busy_twice)
    mask = RemoteSegmenter(live_server)(PIXELS[0])
    np.testing.assert_array_equal(mask, Baseline()(PIXELS[0]))
    assert len(asked) == 3


def test_server_that_stays_busy_is_given_up():
    asked = []
    busy = fake_server(lambda _: asked.append(1) or b"{}", 503, {"Retry-After": "0"})
    with busy as url, pytest.raises(ServerError, match="the server answered 503"):
        RemoteSegmenter(url)(PIXELS[0])
    assert len(asked) == remote.MOST_TRIES


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"{}",
        b'{"img": "!"}',
        b'{"img": "aGVsbG8="}',
        b'{"img": "%s"}' % encode(PIXELS[1]).encode(),
        b'{"img": "%s"}' % encode(PIXELS[0]).encode(),
    ],
    ids=["HTML", "no image", "no base64", "no PNG", "another shape", "not only 0 and 255"],
)
def test_answer_that_is_no_mask_is_refused(answer):
    with fake_server(lambda _: answer) as url, pytest.raises(ContractError):
        RemoteSegmenter(url)(PIXELS[0])


# Wrong usage: one line, exit code 2, nothing written


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "empty holds no PNG file"),
        (["images", "--out", "images"], "would be written over an image"),
        (["images", "more"], "would both become"),
        (["images", "--url", "127.0.0.1:8000"], "no address such as"),
        (["images", "--url", "http://127.0.0.1:1"], "no server answers"),
        (["images", "--csv", "empty"], "is a folder"),
        (["images", "--out", "images/scan_0.png"], "cannot make the folder"),
    ],
)
def test_wrong_usage(folder, tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("more").mkdir()
    (Path("more") / "scan_1.png").write_bytes(encode_png(PIXELS[0]))
    before = sorted(tmp_path.rglob("*"))
    out = [] if "--out" in arguments else ["--out", "out"]
    assert predict(*arguments, *out) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("value", ["nowhere.onnx", "images/scan_0.png"])
def test_model_that_cannot_be_opened(folder, tmp_path, monkeypatch, capsys, value):
    monkeypatch.setenv("MODEL", str(tmp_path / value))
    assert predict(folder, "--out", tmp_path / "out") == 2
    assert "MODEL=baseline" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5", "9999"])
def test_jobs_must_be_a_number(folder, tmp_path, capsys, jobs):
    with pytest.raises(SystemExit) as exit:
        cli.main(["predict", str(folder), "--out", str(tmp_path), f"--jobs={jobs}"])
    assert exit.value.code == 2
    assert "whole number from 1 to 256" in capsys.readouterr().err


# Interrupted


def run(folder: Path, out: Path) -> subprocess.Popen:
    """Start the command in a process of its own, and return once its first mask is there."""
    command = [sys.executable, "-m", "serve", "predict", folder, "--out", out, "--jobs", "2"]
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


@pytest.fixture
def many(tmp_path) -> Path:
    """Return a folder with more images than are done before anyone can interrupt."""
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "000.png").write_bytes(encode_png(phantom(991, 400)[0]))
    for number in range(1, 200):
        os.link(folder / "000.png", folder / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_interruption_keeps_what_was_done(many, tmp_path, interrupt):
    process = run(many, tmp_path / "out")
    process.send_signal(interrupt)
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complained == "interrupted; the same command goes on from here\n"
    done = len(names(tmp_path / "out"))
    assert 0 < done < 200
    assert said == f"{done} masks written, 0 were there before, 0 failed\n"


def test_kill_leaves_no_half_file_and_no_process(many, tmp_path):
    out = tmp_path / "out"
    process = run(many, out)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 2
    assert not any(is_running(child) for child in children)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    expected = Baseline()(phantom(991, 400)[0])
    for path in kept:
        np.testing.assert_array_equal(decode_png(path.read_bytes()), expected)
    assert 0 < len(kept) < 200
    assert predict(many, "--out", out) == 0
    assert len(list(out.glob("*.png"))) == 200
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Smaller parts


def test_progress_is_a_bar_on_a_terminal_only(monkeypatch, capsys):
    for terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        progress = cli.Progress(4)
        progress.step()
        progress.say("error: a line")
        said = capsys.readouterr().err
        assert ("[######..................] 1/4" in said) == terminal
        assert "error: a line\n" in said
        progress.close()


def test_serving_requirements_are_enough():
    code = "import serve.cli, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True)
    packages = {name.partition(".")[0] for name in loaded.split()}
    assert not packages & {"torch", "onnx", "scipy", "tqdm", "train", "export", "benchmarks"}
