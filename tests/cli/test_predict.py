"""`tumour-segmenter predict`: folders to masks, what is skipped, what is refused."""

import base64
import csv
import errno
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_artifact
from tests.support.fake_server import fake_server
from tests.support.predicting import NOTE, PIXELS, masks, names, predict
from tests.support.serving import serving_app
from tumour_segmenter.cli import main as cli
from tumour_segmenter.contract import decode_png, encode, encode_grey_png, encode_png
from tumour_segmenter.measure import measure
from tumour_segmenter.segmenter import Baseline

pytestmark = pytest.mark.usefixtures("in_this_process")


def test_broken_file_is_named_and_stops_nothing(folder, tmp_path, capsys):
    (folder / "a.png").write_bytes(b"\xff\xd8\xff JPEG")
    out = tmp_path / "out"
    assert predict(folder / "a.png", folder / "scan_0.png", folder / "scan_1.png", "--out", out)
    printed = capsys.readouterr()
    assert printed.err == f"error: {folder / 'a.png'}: expected a PNG, the image is JPEG\n"
    assert printed.out == "2 masks written, 0 were there before, 1 failed\n"
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


def test_server_gives_the_same_files(folder, tmp_path, artifact):
    here, there = tmp_path / "here", tmp_path / "there"
    assert predict(folder, "--out", here, "--overlay") == 0
    with serving_app(artifact) as url:
        assert predict(folder, "--out", there, "--overlay", "--url", f"{url}/") == 0
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


def test_what_is_done_is_skipped_unless_the_image_changed(folder, tmp_path, capsys):
    out = tmp_path / "out"
    predict(folder / "scan_0.png", folder / "scan_1.png", "--out", out)
    before = (out / "scan_0.png").stat().st_mtime_ns
    (folder / "scan_1.png").write_bytes(encode_png(PIXELS[2]))
    later = time.time() + 5
    os.utime(folder / "scan_1.png", (later, later))
    os.utime(folder / "scan_0.png", (later, later))  # copied anew, with the same content
    capsys.readouterr()
    assert predict(folder, "--out", out) == 0
    assert capsys.readouterr().out == "2 masks written, 1 was there before, 0 failed\n"
    assert (out / "scan_0.png").stat().st_mtime_ns == before
    np.testing.assert_array_equal(masks(out)[1], Baseline()(PIXELS[2]))


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
    with serving_app(points) as url:
        for point in ("sensitive", "specific"):
            command = (folder / "scan_0.png", "--operating-point", point)
            assert predict(*command, "--out", tmp_path / point, "--url", url) == 0
            with pytest.MonkeyPatch.context() as environ:
                environ.setenv("MODEL", str(points))
                assert predict(*command, "--out", tmp_path / f"{point}-here") == 0
            (there,), (here,) = masks(tmp_path / point), masks(tmp_path / f"{point}-here")
            np.testing.assert_array_equal(there, here)
        assert predict(folder, "--out", tmp_path, "--operating-point", "x", "--url", url)


def test_another_image_of_the_same_name_size_and_time_is_done_again(folder, tmp_path):
    """As of two archives that were packed with fixed times."""
    image, out, table = folder / "scan_0.png", tmp_path / "out", tmp_path / "a.csv"
    pngs = [encode_png(pixels) for pixels in (PIXELS[0], PIXELS[1])]
    longest = max(map(len, pngs))
    for pixels, png in zip(PIXELS, pngs, strict=False):
        image.write_bytes(png.ljust(longest, b"\0"))
        os.utime(image, (1e9, 1e9))
        assert predict(image, "--out", out, "--csv", table) == 0
        np.testing.assert_array_equal(masks(out)[0], Baseline()(pixels))
        (row,) = csv.DictReader(table.read_text().splitlines())
        assert int(row["height"]) == len(pixels)


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


def test_a_mask_whose_name_looks_like_an_overlay_stays(folder, tmp_path, monkeypatch):
    for kind in ("overlay", "probability"):
        (folder / "scan_1.png").rename(folder / f"scan_0_{kind}.png")
        (folder / f"scan_0_{kind}.png").with_name("scan_1.png").write_bytes(encode_png(PIXELS[1]))
    out = tmp_path / "out"
    assert predict(folder, "--out", out) == 0
    monkeypatch.setenv("MODEL", "baseline")
    assert predict(folder / "scan_0.png", "--out", out) == 0
    assert names(out) >= {"scan_0.png", "scan_0_overlay.png", "scan_0_probability.png"}


# The probability


def test_probability_is_a_grey_picture_and_its_highest_value_a_column(folder, tmp_path, capsys):
    out, table = tmp_path / "out", tmp_path / "a.csv"
    for written, before in ((3, 0), (0, 3)):
        stdout_of(capsys)
        assert predict(folder, "--out", out, "--probability", "--csv", table) == 0
        assert f"{written} masks written, {before} were there" in stdout_of(capsys)
        rows = list(csv.DictReader(table.read_text().splitlines()))
        for number, (pixels, row) in enumerate(zip(PIXELS, rows, strict=True)):
            picture = Image.open(out / f"scan_{number}_probability.png")
            assert picture.mode == "L"
            np.testing.assert_array_equal(np.asarray(picture), 255 - pixels)
            assert row["highest_probability"] == f"{(255 - pixels.min()) / 255:.3f}"
    assert len(names(out)) == 6
    np.testing.assert_array_equal(masks(out)[0], Baseline()(PIXELS[0]))


def test_without_probability_there_is_neither_picture_nor_column(folder, tmp_path):
    out, table = tmp_path / "out", tmp_path / "a.csv"
    assert predict(folder, "--out", out, "--csv", table) == 0
    assert names(out) == {"scan_0.png", "scan_1.png", "scan_2.png"}
    rows = csv.DictReader(table.read_text().splitlines())
    assert [row["highest_probability"] for row in rows] == ["", "", ""]


def test_probability_is_part_of_what_is_done(folder, tmp_path, monkeypatch, capsys):
    command = (folder / "scan_0.png", "--out", tmp_path / "out")
    predict(*command)
    for more, expected in (([], "0 masks written, 1 was"), (["--probability"], "1 mask written")):
        stdout_of(capsys)
        assert predict(*command, *more) == 0
        assert expected in stdout_of(capsys)
    monkeypatch.setenv("MODEL", "baseline")
    predict(*command)
    assert names(tmp_path / "out") == {"scan_0.png"}  # that of another model is gone


def test_probability_of_a_server_is_asked_for(folder, tmp_path):
    asked = []

    def answer(image, request):
        asked.append(request.get("probability"))
        grey = np.ascontiguousarray(image[..., 0])
        png = base64.b64encode(encode_grey_png(255 - grey)).decode()
        return json.dumps({"img": encode(Baseline()(grey)), "probability": png}).encode()

    command = (folder / "scan_0.png", "--out", tmp_path / "out", "--probability")
    with fake_server(answer) as url:
        assert predict(*command, "--url", url) == 0
    assert asked == [True]
    found = decode_png((tmp_path / "out/scan_0_probability.png").read_bytes())
    np.testing.assert_array_equal(found, 255 - PIXELS[0])


def test_server_without_a_probability_is_an_error(folder, tmp_path, capsys):
    command = (folder / "scan_0.png", "--out", tmp_path / "out", "--probability")
    body = json.dumps({"img": encode(Baseline()(PIXELS[0]))}).encode()
    with fake_server(lambda _: body) as url:
        assert predict(*command, "--url", url) == 1
    assert "holds no probability" in capsys.readouterr().err
    assert names(tmp_path / "out") == set()


def test_model_without_a_probability_is_wrong_usage(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODEL", "baseline")
    assert predict(folder, "--out", tmp_path / "out", "--probability") == 2
    printed = capsys.readouterr().err
    assert printed == "error: --probability: this model outputs none; leave it out\n"
    assert not (tmp_path / "out").exists()


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
    printed = capsys.readouterr()
    assert printed.out == "3 masks written, 0 were there before, 0 failed\n"
    assert sorted(printed.err.splitlines()) == [
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
    monkeypatch.setenv("MODEL", "baseline")

    def gone(path):
        raise OSError(errno.EACCES, "Permission denied", os.fspath(path))

    monkeypatch.setattr(Path, "read_bytes", gone)
    assert predict(folder / "scan_0.png", "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err == f"error: {folder / 'scan_0.png'}: Permission denied\n"


def full(path, data):
    raise OSError(errno.ENOSPC, "No space left on device", os.fspath(path))


def test_full_disk_is_not_the_image_s_fault_and_ends_the_work(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("tumour_segmenter.files.write", full)
    assert predict(folder, "--out", tmp_path / "out") == 1
    printed = capsys.readouterr()
    mask = tmp_path / "out/scan_0.png"
    assert printed.err == (
        f"{NOTE}error: the disk is full: {mask} could not be written\n"
        "stopped; the same command goes on from here\n"
    )
    assert printed.out == "0 masks written, 0 were there before, 1 failed\n"


def test_unlikely_masks_and_images_come_with_a_warning(tmp_path, capsys):
    inverted = tmp_path / "inverted.png"
    inverted.write_bytes(encode_png(255 - PIXELS[0]))
    table = tmp_path / "a.csv"
    assert predict(inverted, "--out", tmp_path / "out", "--csv", table) == 0
    printed = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in printed] == ["warning"] * 2
    assert "most of the image is dark" in printed[0]
    assert "% of the body; is the image inverted" in printed[1]
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert "is it inverted" in row["warning"]
    assert "% of the body" in row["warning"]


def test_shard_reads_its_number_from_the_scheduler(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert predict(folder, "--out", tmp_path / "out", "--shard", "auto/2") == 0
    assert stdout_of(capsys).startswith("shard 1/2: ")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert predict(folder, "--out", tmp_path / "out", "--shard", "auto/2") == 2
    assert "JOB_COMPLETION_INDEX" in capsys.readouterr().err


# Servers


def test_address_of_predict_gives_the_base_url(folder, tmp_path, capsys):
    url = "http://127.0.0.1:1"
    assert predict(folder, "--out", tmp_path / "out", "--url", f"{url}/predict") == 2
    printed = capsys.readouterr().err
    assert (
        printed == f"error: {url}/predict: give the base URL, here {url}; /predict is added to it\n"
    )


def test_other_program_s_404_ends_the_work(folder, tmp_path, capsys):
    with fake_server(lambda _: b"{}", options=405) as url:
        assert predict(folder, "--out", tmp_path / "out", "--url", f"{url}/other") == 1
        assert capsys.readouterr().err == (
            f"{NOTE}error: the server takes no images at {url}/other/predict (404): give its base "
            "URL, such as http://127.0.0.1:8000\nstopped; the same command goes on from here\n"
        )


def test_key_is_asked_for_before_any_image(folder, tmp_path, monkeypatch, capsys, artifact):
    with serving_app(artifact, API_KEY="secret") as url:
        command = (folder, "--out", tmp_path / "out", "--url", url)
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
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
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
