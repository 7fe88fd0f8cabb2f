"""`python -m tumour_segmenter predict`: folders to masks, resumed, interrupted, by a server."""

import csv
import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.settings import VARIABLES
from tests.conftest import PROJECT, write_artifact
from tests.support.fake_server import fake_server
from tests.support.serving import serving
from tumour_segmenter.cli import batch
from tumour_segmenter.cli import main as cli
from tumour_segmenter.cli.batch import Plan
from tumour_segmenter.cli.tasks import Outcome, Provenance, Task
from tumour_segmenter.contract import check_mask, decode_png, encode, encode_png
from tumour_segmenter.measure import measure
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline

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


# What is done


def stdout_of(capsys) -> str:
    return capsys.readouterr().out


@pytest.fixture
def points(tmp_path) -> Path:
    """Return a model with two operating points: all, and no mask at all."""
    metadata = {
        "name": "tiny",
        "operating_point": "sensitive",
        "operating_points": json.dumps(
            {
                "sensitive": {"minimum_probability": 0.5},
                "specific": {"minimum_probability": 1.0},
            }
        ),
    }
    return write_artifact(tmp_path / "points.onnx", metadata=metadata, minimum=True)


def test_masks_of_another_model_are_made_again(folder, tmp_path, monkeypatch, capsys, points):
    out = tmp_path / "out"
    predict(folder, "--out", out)
    for model in ("baseline", points, "baseline"):
        monkeypatch.setenv("MODEL", str(model))
        stdout_of(capsys)
        assert predict(folder, "--out", out) == 0
        assert stdout_of(capsys) == "3 masks written, 0 were there before, 0 failed\n"
        assert predict(folder, "--out", out) == 0
        assert stdout_of(capsys) == "0 masks written, 3 were there before, 0 failed\n"


def test_masks_of_another_version_are_made_again(folder, tmp_path, monkeypatch, capsys):
    predict(folder, "--out", tmp_path / "out")
    monkeypatch.setattr("tumour_segmenter.cli.batch.__version__", "99")
    stdout_of(capsys)
    predict(folder, "--out", tmp_path / "out")
    assert stdout_of(capsys) == "3 masks written, 0 were there before, 0 failed\n"


def test_operating_point_makes_the_mask_and_is_part_of_done(
    folder, tmp_path, monkeypatch, capsys, points
):
    monkeypatch.setenv("MODEL", str(points))
    out, table = tmp_path / "out", tmp_path / "a.csv"
    command = (folder / "scan_0.png", "--out", out, "--csv", table)
    sizes = {}
    for point in ("sensitive", "specific"):
        stdout_of(capsys)
        assert predict(*command, "--operating-point", point) == 0
        assert stdout_of(capsys) == "1 mask written, 0 were there before, 0 failed\n"
        sizes[point] = masks(out)[0].sum()
        (row,) = csv.DictReader(table.read_text().splitlines())
        assert row["operating_point"] == point
        assert row["model"] == hashlib.sha256(points.read_bytes()).hexdigest()
    assert sizes["sensitive"] > sizes["specific"]
    predict(*command)
    assert stdout_of(capsys) == "1 mask written, 0 were there before, 0 failed\n"
    predict(*command, "--operating-point", "sensitive")  # which is the default
    assert stdout_of(capsys) == "0 masks written, 1 was there before, 0 failed\n"


def test_unknown_operating_point_names_those_there_are(folder, tmp_path, monkeypatch, capsys):
    assert predict(folder, "--out", tmp_path / "out", "--operating-point", "best") == 2
    assert "--operating-point best: the operating points of this model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_server_s_operating_point_is_used(folder, tmp_path, points):
    with serving(points, WORKERS="1") as server:
        for point in ("sensitive", "specific"):
            command = (folder / "scan_0.png", "--operating-point", point)
            assert predict(*command, "--out", tmp_path / point, "--url", server.url) == 0
            with pytest.MonkeyPatch.context() as environ:
                environ.setenv("MODEL", str(points))
                assert predict(*command, "--out", tmp_path / f"{point}-here") == 0
            (there,), (here,) = masks(tmp_path / point), masks(tmp_path / f"{point}-here")
            np.testing.assert_array_equal(there, here)
        assert predict(folder, "--out", tmp_path, "--operating-point", "x", "--url", server.url)


def test_image_replaced_by_an_older_file_is_done_again(folder, tmp_path, capsys):
    predict(folder / "scan_0.png", "--out", tmp_path / "out")
    (folder / "scan_0.png").write_bytes(encode_png(PIXELS[1]))
    os.utime(folder / "scan_0.png", (1e9, 1e9))
    predict(folder / "scan_0.png", "--out", tmp_path / "out")
    np.testing.assert_array_equal(masks(tmp_path / "out")[0], Baseline()(PIXELS[1]))


def test_overlay_never_shows_another_model_s_mask(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict(folder / "scan_0.png", "--out", out, "--overlay")
    (out / "scan_1_overlay.png").write_bytes(encode_png(PIXELS[1]))  # somebody else's
    first = (out / "scan_0_overlay.png").read_bytes()
    monkeypatch.setenv("MODEL", "baseline")
    predict(folder, "--out", out)
    assert names(out) == {"scan_0.png", "scan_1.png", "scan_2.png", "scan_1_overlay.png"}
    assert predict(folder / "scan_0.png", "--out", out, "--overlay") == 0
    assert (out / "scan_0_overlay.png").read_bytes() != first  # at least its record


def test_what_a_crash_left_is_done_again(folder, tmp_path):
    out = tmp_path / "out"
    predict(folder, "--out", out)
    whole = (out / "scan_0.png").read_bytes()
    (out / "scan_0.png").write_bytes(b"")
    (out / "scan_1.png").write_bytes(whole[:50])
    assert predict(folder, "--out", out) == 0
    for pixels, mask in zip(PIXELS, masks(out), strict=True):
        np.testing.assert_array_equal(mask, Baseline()(pixels))


def test_what_this_command_did_not_write_is_never_written_over(folder, tmp_path, capsys):
    out = tmp_path / "labels"
    out.mkdir()
    drawn = encode_png(np.zeros_like(PIXELS[0]))
    (out / "scan_1.png").write_bytes(drawn)
    assert predict(folder, "--out", out) == 2
    assert "labels holds 1 image that this command did not write" in capsys.readouterr().err
    assert names(out) == {"scan_1.png"}
    assert (out / "scan_1.png").read_bytes() == drawn


# What is taken, and what goes where


def test_what_is_ignored_is_named(folder, tmp_path, capsys):
    (folder / "scan_0.png").rename(folder / "scan_0.PNG")
    (folder / "._scan_1.png").write_bytes(b"apple")
    (folder / "b.jpeg").touch()
    (folder / "inside").mkdir()
    assert predict(folder, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.out == "3 masks written, 0 were there before, 0 failed\n"
    assert sorted(said.err.splitlines()) == [
        "note: ignored AppleDouble files of macOS (._*): 1 (._scan_1.png)",
        "note: ignored files that are not named *.png: 2 (b.jpeg, notes.txt)",
        "note: ignored folders inside, which are not searched (name them as well): 1 (inside)",
    ]
    assert names(tmp_path / "out") == {"scan_0.png", "scan_1.png", "scan_2.png"}


def test_image_named_twice_is_done_once(folder, tmp_path, capsys):
    assert predict(folder, folder / "scan_0.png", "--out", tmp_path / "out") == 0
    assert stdout_of(capsys) == "3 masks written, 0 were there before, 0 failed\n"


def test_table_never_goes_over_an_image_nor_anything_else(folder, tmp_path, capsys):
    images = sorted(folder.glob("*.png"))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for place in (images[0], folder / "notes.txt", images[2], tmp_path / "new.PNG"):
        assert predict(*images[1:], "--out", tmp_path / "out", "--csv", place) == 2
    (tmp_path / "link.csv").symlink_to(images[2])
    assert predict(*images[1:], "--out", tmp_path / "out", "--csv", tmp_path / "link.csv") == 2
    os.link(images[2], tmp_path / "hard.csv")
    assert predict(*images[1:], "--out", tmp_path / "out", "--csv", tmp_path / "hard.csv") == 2
    assert cli.main(["predict", "--out", str(tmp_path / "out"), "--csv", *map(str, images)]) == 2
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "out").exists()
    capsys.readouterr()


def test_mask_never_goes_through_a_link_to_an_image(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "scan_0.png").symlink_to(folder / "scan_1.png")
    before = (folder / "scan_1.png").read_bytes()
    assert predict(folder, "--out", out) == 2
    assert (folder / "scan_1.png").read_bytes() == before


def test_table_may_be_a_pipe(folder, tmp_path):
    command = [
        sys.executable,
        "-m",
        "tumour_segmenter",
        "predict",
        folder,
        "--out",
        tmp_path / "out",
    ]
    said = subprocess.run([*command, "--csv", "/dev/stderr"], cwd=PROJECT, capture_output=True)
    assert said.returncode == 0
    assert b"\nimage,mask," in said.stderr


@pytest.mark.parametrize("stem", ["a" * 251, "a" * 244, "ä" * 125])
def test_longest_names_get_their_mask_and_overlay(folder, tmp_path, stem):
    other = stem[:-1] + "b"
    (folder / "scan_0.png").rename(folder / f"{stem}.png")
    (folder / "scan_1.png").rename(folder / f"{other}.png")
    out = tmp_path / "out"
    assert predict(folder, "--out", out, "--overlay") == 0
    assert len(names(out)) == 6
    assert {f"{stem}.png", f"{other}.png"} < names(out)
    assert all(len(name.encode()) <= 255 for name in names(out))
    assert predict(folder, "--out", out, "--overlay") == 0
    assert len(names(out)) == 6


def test_name_of_255_bytes_without_ending_gets_a_mask(folder, tmp_path):
    (folder / "scan_0.png").rename(folder / ("a" * 255))
    assert predict(folder / ("a" * 255), "--out", tmp_path / "out") == 0
    (name,) = names(tmp_path / "out")
    assert name.endswith(".png")


def test_image_that_cannot_be_read_is_named_once(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "tumour_segmenter.cli.batch._plan", Plan("baseline", 1, 10**6), raising=False
    )
    monkeypatch.setattr(
        "tumour_segmenter.cli.batch.outcomes",
        lambda tasks, _, made, __: (batch.work(t, made) for t in tasks),
    )

    monkeypatch.setenv("MODEL", "baseline")

    def gone(path):
        raise OSError(errno.EACCES, "Permission denied", os.fspath(path))

    monkeypatch.setattr(Path, "read_bytes", gone)
    assert predict(folder / "scan_0.png", "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err == f"error: {folder / 'scan_0.png'}: Permission denied\n"


def full(path, data):
    raise OSError(errno.ENOSPC, "No space left on device", os.fspath(path))


def test_full_disk_is_not_the_image_s_fault_and_ends_the_work(
    folder, tmp_path, monkeypatch, capsys, artifact
):
    monkeypatch.setattr("tumour_segmenter.files.write", full)
    monkeypatch.setattr("tumour_segmenter.cli.batch._plan", Plan(artifact, 1, 10**6), raising=False)
    monkeypatch.setattr("tumour_segmenter.cli.batch._segment", Baseline(), raising=False)
    monkeypatch.setattr(
        "tumour_segmenter.cli.batch.outcomes",
        lambda tasks, _, made, __: (batch.work(t, made) for t in tasks),
    )
    assert predict(folder, "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    mask = tmp_path / "out/scan_0.png"
    assert said.err == (
        f"{NOTE}error: the disk is full: {mask} could not be written\n"
        "stopped; the same command goes on from here\n"
    )
    assert said.out == "0 masks written, 0 were there before, 1 failed\n"


def test_unlikely_masks_and_images_come_with_a_warning(tmp_path, capsys):
    inverted = tmp_path / "inverted.png"
    inverted.write_bytes(encode_png(255 - PIXELS[0]))
    table = tmp_path / "a.csv"
    assert predict(inverted, "--out", tmp_path / "out", "--csv", table) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["warning"] * 2
    assert "most of the image is dark" in said[0]
    assert "% of the body; is the image inverted" in said[1]
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert "is it inverted" in row["warning"]
    assert "% of the body" in row["warning"]


# Shards


def test_shards_do_each_image_once_and_their_tables_make_one(folder, tmp_path, capsys):
    for number in range(9):
        (folder / f"more_{number}.png").write_bytes(encode_png(PIXELS[0]))
    out, together = tmp_path / "out", tmp_path / "all.csv"
    tables = [tmp_path / f"{shard}.csv" for shard in range(3)]
    command = [
        sys.executable,
        "-m",
        "tumour_segmenter",
        "predict",
        folder,
        "--out",
        out,
        "--jobs",
        "1",
    ]
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
    assert stdout_of(capsys) == "12 rows of 3 tables\n"
    rows = list(csv.DictReader(together.read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(p) for p in sorted(folder.glob("*.png"))]
    assert {row["shard"] for row in rows} == {"0/3", "1/3", "2/3"}
    for shard in range(3):  # again, which costs nothing
        assert predict(folder, "--out", out, "--shard", f"{shard}/3") == 0
        said = stdout_of(capsys)
        assert f"shard {shard}/3: " in said
        assert "0 masks written" in said
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    os.unlink(tables[1])
    del merge[2]
    assert cli.main(merge) == 1
    assert capsys.readouterr().err == "error: no rows of 1 of 3 shards: 1/3\n"


def test_shard_reads_its_number_from_the_scheduler(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert predict(folder, "--out", tmp_path / "out", "--shard", "auto/2") == 0
    assert stdout_of(capsys).startswith("shard 1/2: ")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert predict(folder, "--out", tmp_path / "out", "--shard", "auto/2") == 2
    assert "JOB_COMPLETION_INDEX" in capsys.readouterr().err


def test_two_workers_on_the_same_files_do_no_harm(folder, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "tumour_segmenter",
        "predict",
        folder,
        "--out",
        out,
        "--overlay",
    ]
    processes = [subprocess.Popen(command, cwd=PROJECT) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(names(out)) == 6
    for pixels, mask in zip(PIXELS, masks(out), strict=True):
        np.testing.assert_array_equal(mask, Baseline()(pixels))


# Servers


def test_address_of_predict_gives_the_base_url(folder, tmp_path, capsys):
    url = "http://127.0.0.1:1"
    assert predict(folder, "--out", tmp_path / "out", "--url", f"{url}/predict") == 2
    said = capsys.readouterr().err
    assert said == f"error: {url}/predict: give the base URL, here {url}; /predict is added to it\n"


def test_other_program_s_404_ends_the_work(folder, tmp_path, capsys):
    with fake_server(lambda _: b"{}", options=405) as url:
        assert predict(folder, "--out", tmp_path / "out", "--url", f"{url}/other") == 1
        assert capsys.readouterr().err == (
            f"{NOTE}error: the server takes no images at {url}/other/predict (404): give its base "
            "URL, such as http://127.0.0.1:8000\nstopped; the same command goes on from here\n"
        )


def test_key_is_asked_for_before_any_image(folder, tmp_path, monkeypatch, capsys, artifact):
    with serving(artifact, WORKERS="1", API_KEY="secret") as server:
        command = (folder, "--out", tmp_path / "out", "--url", server.url)
        assert predict(*command) == 2
        assert (
            "wants an API key (401): set the environment variable API_KEY"
            in capsys.readouterr().err
        )
        monkeypatch.setenv("API_KEY", "wrong")
        assert predict(*command) == 2
        assert "does not take the API key (401)" in capsys.readouterr().err
        monkeypatch.setenv("API_KEY", "secret")
        assert predict(*command) == 0


def test_masks_of_an_unknown_model_are_never_taken_for_done(folder, tmp_path, capsys):
    body = b'{"img": "%s"}' % encode(Baseline()(PIXELS[0])).encode()
    with fake_server(lambda _: body) as url:
        for _ in range(2):
            stdout_of(capsys)
            assert predict(folder / "scan_0.png", "--out", tmp_path / "out", "--url", url) == 0
            assert stdout_of(capsys) == "1 mask written, 0 were there before, 0 failed\n"


def test_serve_becomes_the_server_wherever_it_is_started(tmp_path, artifact):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    code = "import sys; from tumour_segmenter.cli.main import main; main()"
    variables = {"MODEL": os.fspath(artifact), "HOST": "127.0.0.1", "PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "serve"],
            cwd=tmp_path,
            env=os.environ | variables | {"WORKERS": "1", "PYTHONPATH": os.fspath(PROJECT)},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while "Worker is ready" not in (tmp_path / "log").read_text():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        image = tmp_path / "a.png"
        image.write_bytes(encode_png(PIXELS[0]))
        assert predict(image, "--out", tmp_path, "--url", f"http://127.0.0.1:{port}") == 2
        assert predict(image, "--out", tmp_path / "o", "--url", f"http://127.0.0.1:{port}") == 0
    finally:
        process.terminate()
        assert process.wait(30) == 0


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


# Processes


def dies_of_scan_1(task, provenance):
    if task.image.name == "scan_1.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(task, seconds=0.0)


def always_dies(task, provenance):
    os.kill(os.getpid(), signal.SIGKILL)


PROVENANCE = Provenance("model", "version", "")


def test_image_that_kills_its_process_is_the_only_one_that_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "work", dies_of_scan_1)
    tasks = [Task(Path(f"scan_{number}.png"), tmp_path) for number in range(12)]
    found = list(batch.outcomes(tasks, Plan("baseline", 1, 1), PROVENANCE, 2))
    assert sorted(outcome.task.image.name for outcome in found) == sorted(
        task.image.name for task in tasks
    )
    (failed,) = [outcome for outcome in found if outcome.fault]
    assert failed.task.image.name == "scan_1.png"
    assert "a worker process died" in failed.fault
    assert not failed.fatal


def test_processes_that_die_of_anything_end_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "work", always_dies)
    tasks = [Task(Path(f"scan_{number}.png"), tmp_path) for number in range(5)]
    found = list(islice(batch.outcomes(tasks, Plan("baseline", 1, 1), PROVENANCE, 1), 3))
    assert [outcome.fatal for outcome in found] == [False, False, True]


def at_once(task, provenance):
    return Outcome(task)


def test_only_a_few_tasks_are_handed_out_ahead(monkeypatch, tmp_path):
    """A million images must not need more memory than a thousand."""
    monkeypatch.setattr(batch, "work", at_once)
    taken = []

    def tasks():
        for number in range(500):
            taken.append(number)
            yield Task(Path(str(number)), tmp_path)

    for done, _ in enumerate(batch.outcomes(tasks(), Plan("baseline", 1, 1), PROVENANCE, 2), 1):
        assert len(taken) <= done + 2 * batch.AHEAD * 2
    assert done == 500


def test_what_the_server_says_of_an_image_is_reported(folder, tmp_path, capsys):
    body = b'{"error": {"code": "no", "message": "this image is not wanted"}}'
    with fake_server(lambda _: body, status=422) as url:
        assert predict(folder / "scan_0.png", "--out", tmp_path / "out", "--url", url) == 1
    assert (
        "scan_0.png: the server answered 422: this image is not wanted\n" in capsys.readouterr().err
    )
    assert names(tmp_path / "out") == set()


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


@pytest.mark.parametrize(
    ("value", "expected"),
    [("nowhere.onnx", "MODEL=baseline"), ("images/scan_0.png", "is no ONNX file")],
)
def test_model_that_cannot_be_opened(folder, tmp_path, monkeypatch, capsys, value, expected):
    monkeypatch.setenv("MODEL", str(tmp_path / value))
    assert predict(folder, "--out", tmp_path / "out") == 2
    assert expected in capsys.readouterr().err
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
    command = [
        sys.executable,
        "-m",
        "tumour_segmenter",
        "predict",
        folder,
        "--out",
        out,
        "--jobs",
        "2",
    ]
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


def test_serving_requirements_are_enough():
    code = "import tumour_segmenter.cli.main, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True)
    packages = {name.partition(".")[0] for name in loaded.split()}
    assert not packages & {"torch", "onnx", "scipy", "flask", "train", "export", "benchmarks"}


def test_unknown_option_says_that_settings_are_environment_variables(tmp_path, capsys):
    words = "unknown: --model mine.onnx; settings are environment variables"
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(tmp_path), "--out", str(tmp_path), "--model", "mine.onnx"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "usage: tumour-segmenter predict" in said
    assert words in said
    done = serve_command("--model", "mine.onnx")
    assert done.returncode == 2
    assert "usage: tumour-segmenter serve" in done.stderr
    assert words in done.stderr


def test_help_of_serve_lists_every_setting():
    said = serve_command("--help").stdout
    for variable in VARIABLES:
        assert variable.name in said
        assert variable.help in said
