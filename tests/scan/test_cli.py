"""`python -m scan` as a person uses it: sources, results, resuming, exit codes, privacy."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom", reason="requirements-scan.txt is not installed")

from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from scan.cli import main
from scan.errors import ScanError
from tests.conftest import PROJECT, write_artifact
from tests.support.pet_series import (
    FACTOR,
    LESIONS,
    NAME,
    PATIENT,
    PEAKS,
    body,
    datasets,
    other,
    save,
    write_series,
)
from tumour_segmenter import needs
from tumour_segmenter.contract import decode_png

SMALL = body()[30:42, 8:32, 15:45]
FILES = ["mask.png", "mip.png", "overlay.png", "report.html", "report.json"]
WORDS = [NAME, *NAME.split("^"), PATIENT, "19510203"]


@pytest.fixture(autouse=True)
def baseline(monkeypatch):
    monkeypatch.setenv("MODEL", "baseline")


def only_folder(out):
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    return folder


def report_of(out):
    return json.loads((only_folder(out) / "report.json").read_text())


def rows_of(table):
    return list(csv.DictReader(table.read_text().splitlines()))


def test_a_series_becomes_pictures_and_a_report(tmp_path, capsys):
    study = write_series(tmp_path / "study" / "deep" / "pet")
    save([other("CT"), other("CT")], tmp_path / "study" / "ct")
    out = tmp_path / "out"
    assert main([str(tmp_path / "study"), "--out", str(out), "--csv", str(tmp_path / "t.csv")]) == 0
    folder = only_folder(out)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    said = report_of(out)
    assert said["series"]["series_uid"] == "1.2.3.4.5"
    assert said["series"]["description"] == "PET WB"
    assert said["series"]["date"] == "20240115"
    assert said["series"]["scanner"] == "ACME Ring 1"
    assert said["suv"]["factor"] == pytest.approx(FACTOR)
    assert said["suv"]["units"] == "BQML"
    assert said["suv"]["uptake_minutes"] == 60
    assert said["mip"] == {
        "suv_max": pytest.approx(max(PEAKS), rel=1e-4),
        "pixel_mm": [2.0, 2.036],
        "shape": [105, 400],
        "suv_black": 7.0,
    }
    pixels = decode_png((folder / "mip.png").read_bytes())
    mask = decode_png((folder / "mask.png").read_bytes())
    assert pixels.shape == mask.shape == (105, 400)
    assert np.array_equal(mask == 255, pixels < 50)  # the baseline
    peaks = {lesion["suv_max"]: lesion for lesion in said["lesions"]}
    for place, peak in zip(LESIONS, PEAKS, strict=True):
        lesion = peaks[min(peaks, key=lambda found, peak=peak: abs(found - peak))]
        assert lesion["suv_max"] == pytest.approx(peak, rel=1e-4)
        assert lesion["hottest"]["index"] == list(place)
        assert lesion["hottest"]["sop_instance_uid"] == f"1.2.3.4.5.{place[0] + 1}"
    totals = said["totals"]
    assert totals["lesions"] == len(said["lesions"]) == 3  # and the brain
    assert totals["projected_area_cm2"] == pytest.approx(np.count_nonzero(mask) * 4.072 / 100)
    assert said["model"]["name"] == "baseline"
    (row,) = rows_of(tmp_path / "t.csv")
    assert float(row["projected_area_cm2"]) == pytest.approx(totals["projected_area_cm2"], abs=1e-4)
    assert float(row["dmax_mm"]) == pytest.approx(totals["dmax_mm"], abs=0.01)
    assert row["folder"] == folder.name
    assert row["fault"] == ""
    assert str(study) not in capsys.readouterr().err


def test_a_zip_gives_what_the_folder_gives(tmp_path):
    study = write_series(tmp_path / "study")
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in study.iterdir():
            archive.write(file, f"dicom/{file.name}")
        archive.writestr("readme.txt", "hello")
    assert main([str(study), "--out", str(tmp_path / "a")]) == 0
    assert main([str(path), "--out", str(tmp_path / "b")]) == 0
    for name in ("mip.png", "mask.png"):
        assert (only_folder(tmp_path / "a") / name).read_bytes() == (
            only_folder(tmp_path / "b") / name
        ).read_bytes()


def test_files_named_one_by_one_are_one_source(tmp_path):
    study = write_series(tmp_path / "study", suv=SMALL)
    paths = [str(path) for path in study.iterdir()]
    assert main([*paths, "--out", str(tmp_path / "out")]) == 0
    assert report_of(tmp_path / "out")["series"]["matrix"][0] == len(SMALL)


def test_several_series_and_patients_in_one_folder(tmp_path):
    study = tmp_path / "study"
    for k in range(3):
        write_series(study / str(k), suv=SMALL, SeriesInstanceUID=f"1.2.{k}", PatientID=f"P{k}")
    out = tmp_path / "out"
    assert main([str(study), "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 3
    assert main([str(study), "--out", str(tmp_path / "one"), "--series", "1.2.2"]) == 0
    assert report_of(tmp_path / "one")["series"]["series_uid"] == "1.2.2"
    assert main([str(study), "--out", str(tmp_path / "none"), "--series", "1.2.9"]) == 1


def test_shards_do_each_series_once(tmp_path, capsys):
    study = tmp_path / "study"
    for k in range(6):
        write_series(study / str(k), suv=SMALL, SeriesInstanceUID=f"1.2.{k}")
    empty = tmp_path / "empty"
    empty.mkdir()
    out, tables, codes = tmp_path / "out", [], []
    for index in range(3):
        tables.append(tmp_path / f"{index}.csv")
        command = [str(study), str(empty), "--out", str(out), "--csv", str(tables[-1])]
        codes.append(main([*command, "--shard", f"{index}/3"]))
    rows = [row for table in tables for row in rows_of(table)]
    done = sorted(row["series_uid"] for row in rows if not row["fault"])
    assert done == [f"1.2.{k}" for k in range(6)]
    assert sorted(codes) == [0, 0, 1]  # what is wrong with a source, one of them says
    assert main([str(study), "--out", str(out), "--shard", "3/3"]) == 2
    assert "--shard 3/3" in capsys.readouterr().err


def test_an_operating_point_that_the_model_does_not_have_is_exit_code_2(tmp_path, capsys):
    study = write_series(tmp_path / "study", suv=SMALL)
    command = [str(study), "--out", str(tmp_path / "out"), "--operating-point", "sensitive"]
    assert main(command) == 2
    assert "--operating-point sensitive" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_operating_point_makes_the_mask_and_is_part_of_done(tmp_path, capsys, monkeypatch):
    points = {"sensitive": {"minimum_probability": 0.0}, "specific": {"minimum_probability": 1.0}}
    metadata = {"operating_point": "sensitive", "operating_points": json.dumps(points)}
    model = write_artifact(tmp_path / "points.onnx", metadata=metadata, minimum=True)
    monkeypatch.setenv("MODEL", str(model))
    study = write_series(tmp_path / "study", suv=SMALL)
    out, table = tmp_path / "out", tmp_path / "table.csv"
    command = [str(study), "--out", str(out), "--csv", str(table), "--suv-black", "14"]
    command.append("--operating-point")
    for name, found in (("sensitive", True), ("specific", False), ("sensitive", True)):
        capsys.readouterr()
        assert main([*command, name]) == 0
        assert "1 series done, 0 were done before" in capsys.readouterr().out
        report = report_of(out)
        assert report["model"]["operating_point"] == name
        assert bool(report["lesions"]) == found
        assert np.asarray(Image.open(only_folder(out) / "mask.png")).any() == found
        assert [row["operating_point"] for row in rows_of(table)] == [name]
        assert name in (only_folder(out) / "report.html").read_text()
        assert main([*command, name]) == 0
        assert "0 series done, 1 were done before" in capsys.readouterr().out


def test_what_is_done_is_not_done_again(tmp_path, capsys, monkeypatch):
    study, out = write_series(tmp_path / "study", suv=SMALL), tmp_path / "out"
    command = [str(study), "--out", str(out), "--csv", str(tmp_path / "t.csv")]
    assert main(command) == 0
    report = only_folder(out) / "report.json"
    before, table = report.stat().st_mtime_ns, (tmp_path / "t.csv").read_text()
    assert main(command) == 0
    assert "0 series done, 1 were done before, 0 failed" in capsys.readouterr().out
    assert report.stat().st_mtime_ns == before
    assert (tmp_path / "t.csv").read_text() == table

    def again(*options) -> bool:
        known = report.stat().st_mtime_ns
        assert main([*command, *options]) == 0
        return report.stat().st_mtime_ns != known

    assert again("--suv-black", "8")
    assert not again("--suv-black", "8")
    assert again("--weight", "80")
    (only_folder(out) / "mask.png").unlink()
    assert again("--weight", "80")
    report.write_text("{")
    assert again("--weight", "80")
    file = sorted(study.iterdir())[0]
    os.utime(file, ns=(1, 1))
    assert not again("--weight", "80")
    changed = bytearray(file.read_bytes())
    monkeypatch.setattr("tumour_segmenter.__version__", "9.9.9")
    assert again("--weight", "80")
    changed[-100] ^= 1  # a pixel
    file.write_bytes(changed)
    os.utime(file, ns=(1, 1))
    assert not again("--weight", "80")
    assert len(list(out.iterdir())) == 2


def test_a_file_of_ones_own_stays_among_the_results(tmp_path):
    study, out = write_series(tmp_path / "study", suv=SMALL), tmp_path / "out"
    assert main([str(study), "--out", str(out)]) == 0
    note = only_folder(out) / "note.txt"
    note.write_text("mine")
    assert main([str(study), "--out", str(out), "--suv-black", "8"]) == 0
    assert note.read_text() == "mine"
    assert report_of(out)["mip"]["suv_black"] == 8


def test_results_inside_the_source_are_not_searched(tmp_path):
    study = write_series(tmp_path / "study", suv=SMALL)
    out = study / "out"
    for _ in range(2):
        assert main([str(study), "--out", str(out), "--dicom"]) == 0
    # Nor are they taken for a scan where they are searched.
    assert main([str(study), "--out", str(tmp_path / "else")]) == 0
    assert len(list((tmp_path / "else").iterdir())) == 1


def test_nothing_of_the_patient_is_in_any_result(tmp_path):
    family = NAME.split("^")[0]
    study = write_series(
        tmp_path / "study",
        suv=SMALL,
        SeriesDescription=f"WB {family.upper()} {PATIENT}",
        Radiopharmaceutical=f"water for {NAME}",
        ManufacturerModelName=f"Ring of_{family}",
    )
    out = tmp_path / "out"
    table = tmp_path / "t.csv"
    assert main([str(study), "--out", str(out), "--dicom", "--csv", str(table)]) == 0
    said = report_of(out)
    assert said["series"]["description"] == "WB [removed] [removed]"
    assert any("the tracer is" in line for line in said["warnings"])
    for path in [table, *out.rglob("*")]:
        contents = path.read_bytes() if path.is_file() else b""
        for word in WORDS:
            assert word.lower() not in path.name.lower()
            assert word.lower().encode() not in contents.lower(), (path.name, word)


def test_the_path_of_a_source_is_not_in_the_table(tmp_path):
    study = write_series(tmp_path / NAME, suv=SMALL, Units="NONE")
    empty = tmp_path / f"empty {NAME}"
    empty.mkdir()
    cut = write_series(tmp_path / f"cut {NAME}", suv=SMALL, SeriesInstanceUID="1.9")
    file = sorted(cut.iterdir())[0]
    file.write_bytes(file.read_bytes()[:-100])
    table = tmp_path / "t.csv"
    command = [str(study), str(empty), str(cut), "--out", str(tmp_path / "out")]
    assert main([*command, "--csv", str(table)]) == 1
    rows = rows_of(table)
    assert [row["source"] for row in rows] == ["1", "2", "3"]
    assert "NONE" in rows[0]["fault"]
    assert rows[0]["series_uid"] == "1.2.3.4.5"
    assert all(row["fault"] for row in rows)
    assert NAME not in table.read_text()


def test_unusual_scans_are_warned_of(tmp_path):
    study = write_series(
        tmp_path / "study",
        RadiopharmaceuticalStartDateTime="20240115080000",
        RadiopharmaceuticalStartTime="080000",
        Radiopharmaceutical="PSMA",
        RadionuclideTotalDose=1e9,
    )
    assert main([str(study), "--out", str(tmp_path / "out")]) == 0
    warnings = "\n".join(report_of(tmp_path / "out")["warnings"])
    assert "180 minutes from injection to scan" in warnings
    assert "14 MBq injected for each kg" in warnings
    assert "'PSMA', not FDG" in warnings
    assert "PSMA" in (only_folder(tmp_path / "out") / "report.html").read_text()


@pytest.mark.slow
def test_a_liver_that_is_too_hot_is_warned_of_and_a_usual_one_is_not(tmp_path):
    from tumour_segmenter.phantom import volume

    suv, _, spacing = volume(0)
    for name, scale in (("usual", 1), ("hot", 5)):
        series = datasets(suv[::-2, ::2] * scale, (spacing[0] * 2, spacing[1] * 2, spacing[2]))
        study = save(series, tmp_path / name)
        assert main([str(study), "--out", str(tmp_path / f"out {name}")]) == 0
        warned = "liver" in " ".join(report_of(tmp_path / f"out {name}")["warnings"])
        assert warned == (name == "hot")


def test_feet_first_and_prone_are_turned(tmp_path):
    plain = write_series(tmp_path / "plain")
    prone = datasets(body()[:, ::-1, ::-1])
    for one in prone:  # the same patient, whose image is turned by half
        x, y, z = one.ImagePositionPatient
        one.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        one.ImagePositionPatient = [-x, -y, z]
    for name, folder in (("a", plain), ("b", save(prone, tmp_path / "prone"))):
        assert main([str(folder), "--out", str(tmp_path / name)]) == 0
    a, b = (report_of(tmp_path / name) for name in "ab")
    pictures = [only_folder(tmp_path / name).joinpath("mip.png").read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]
    (hot,) = [lesion for lesion in b["lesions"] if lesion["id"] == 3]
    slice_, row, column = a["lesions"][2]["hottest"]["index"]
    assert hot["hottest"]["index"] == [slice_, 39 - row, 59 - column]


def pictures_of_both(tmp_path, plain, packed) -> list[bytes]:
    """The projections that two folders with the same series give."""
    pictures = []
    for name, folder in (("a", plain), ("b", packed)):
        assert main([str(folder), "--out", str(tmp_path / name)]) == 0
        pictures.append((only_folder(tmp_path / name) / "mip.png").read_bytes())
    return pictures


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=str)
def test_compressed_files_are_read(syntax, tmp_path):
    suv = body()[30:36]
    series = datasets(suv)
    for one in series:
        one.PixelRepresentation = 0  # no value is negative, and JPEG-LS is for unsigned ones
        one.compress(syntax, generate_instance_uid=False)
    packed = save(series, tmp_path / "packed")
    one, other = pictures_of_both(tmp_path, write_series(tmp_path / "plain", suv=suv), packed)
    assert one == other


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="dcmcjpeg is not installed (dcmtk)")
def test_lossless_jpeg_is_read(tmp_path):
    plain = write_series(tmp_path / "plain", suv=SMALL)
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in plain.iterdir():
        subprocess.run(["dcmcjpeg", "+e1", str(path), str(packed / path.name)], check=True)
    one, other = pictures_of_both(tmp_path, plain, packed)
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--out", "out"], "nowhere: no such file or folder"),
        ([".", "--out", "file"], "is no folder"),
        ([".", "--out", "out", "--csv", "folder"], "is a folder"),
        (
            [".", "--out", "out", "--dicom-patient"],
            "--dicom-patient is about the files of --dicom; add",
        ),
        (["file", "--out", "out", "--csv", "file"], "would be written over"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    "options",
    [["--weight", "heavy"], ["--dose", "0"], ["--suv-black", "-1"],
     ["--suv-black", "1e-300"], ["--weight", "1e300"], ["--dose", "1e-300"],
     ["--injection-time", "noon"],
     ["--suv-factor", "inf"], ["--half-life", "nan"], []],
)  # fmt: skip
def test_options_that_are_no_numbers_are_exit_code_2(options, tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "o"), *options] if options else []
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), *arguments])
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_model_that_is_not_there_is_exit_code_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MODEL", str(tmp_path / "none.onnx"))
    study = write_series(tmp_path / "study", suv=SMALL)
    assert main([str(study), "--out", str(tmp_path / "out")]) == 2
    assert "none.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(("dose", "becquerel"), [("350", 350e6), ("350e6", 350e6)])
def test_a_dose_is_given_in_mbq_or_bq(dose, becquerel, tmp_path):
    study = write_series(tmp_path / "study", suv=SMALL, RadionuclideTotalDose=None)
    assert main([str(study), "--out", str(tmp_path / "out"), "--dose", dose]) == 0
    assert report_of(tmp_path / "out")["suv"]["dose_mbq"] == becquerel / 1e6


@pytest.mark.parametrize("package", ["pydicom", "nibabel", "highdicom"])
def test_a_missing_package_is_one_line_that_installs_it(package, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.nii").write_bytes(b"")
    there = needs.find_spec
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == package else there(name))
    assert main([str(tmp_path / "a.nii"), "--out", str(tmp_path / "o"), "--dicom"]) == 2
    line = capsys.readouterr().err
    assert package in line
    assert "pip install -r " in line
    assert "requirements-scan.txt" in line


def test_the_same_series_in_two_sources_is_done_once(tmp_path, capsys):
    study = write_series(tmp_path / "study", suv=SMALL)
    shutil.copytree(study, tmp_path / "copy")
    out = str(tmp_path / "out")
    assert main([str(study), str(study), "--out", out]) == 0
    assert main([str(study), str(tmp_path / "copy"), "--out", out]) == 1
    assert "holds the results of this content already" in capsys.readouterr().err


def test_a_series_that_was_refused_is_done_from_another_source(tmp_path, capsys):
    whole = write_series(tmp_path / "whole", suv=SMALL)
    damaged = tmp_path / "damaged"
    shutil.copytree(whole, damaged)
    for path in sorted(damaged.iterdir()):
        header = dcmread(path)
        del header.PatientWeight
        header.save_as(path)
    assert main([str(damaged), str(whole), "--out", str(tmp_path / "out")]) == 1
    assert "1 series done, 0 were done before, 1 failed" in capsys.readouterr().out


def test_a_disk_that_fails_leaves_no_half_result(tmp_path, capsys, monkeypatch):
    from tumour_segmenter import files

    study, out = write_series(tmp_path / "study", suv=SMALL), tmp_path / "out"
    write, calls = files.write, []

    def full(path, data):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        write(path, data)

    monkeypatch.setattr(files, "write", full)
    assert main([str(study), "--out", str(out)]) == 1
    assert list(out.iterdir()) == []
    assert "No space left" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupt_is_130_and_the_same_command_goes_on(tmp_path):
    for k in range(6):
        write_series(tmp_path / "study" / str(k), SeriesInstanceUID=f"1.2.{k}")
    command = [sys.executable, "-m", "scan", str(tmp_path / "study"), "--out", str(tmp_path / "o")]
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()  # the first is done
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    done = list((tmp_path / "o").iterdir())
    if process.returncode == 0:  # too fast to be interrupted
        assert len(done) == 6
        return
    assert process.returncode == 130, errors
    assert "interrupted; the same command goes on from here" in errors
    assert "series done" in output
    assert all(sorted(p.name for p in folder.iterdir()) == FILES for folder in done)
    assert subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=60).returncode == 0
    assert len(list((tmp_path / "o").iterdir())) == 6


@pytest.mark.slow
def test_nobody_is_called(tmp_path):
    study = write_series(tmp_path / "study", suv=SMALL)
    program = (
        "import socket, sys\n"
        "def no(*a, **k): raise SystemExit('somebody was called')\n"
        "for name in ('connect', 'connect_ex', 'sendto'): setattr(socket.socket, name, no)\n"
        "socket.getaddrinfo = no\n"
        "from scan.cli import main\n"
        f"sys.exit(main([{str(study)!r}, '--out', {str(tmp_path / 'out')!r}, '--dicom']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_serving_never_loads_what_scanning_needs():
    program = (
        "import serve.app, tumour_segmenter.cli.main, sys\n"
        "assert not {'pydicom', 'nibabel', 'highdicom', 'scan'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True, timeout=60)


@pytest.mark.slow
def test_the_shipped_model_finds_the_lesions_of_the_phantom(tmp_path, monkeypatch):
    from scan.volume import Volume, upright
    from tumour_segmenter.phantom import volume

    monkeypatch.delenv("MODEL")
    suv, truth, spacing = volume(1)
    study = save(datasets(suv[::-1], spacing), tmp_path / "study")
    assert main([str(study), "--out", str(tmp_path / "out")]) == 0
    mask = decode_png((only_folder(tmp_path / "out") / "mask.png").read_bytes()) > 0
    matrix = np.diag([*spacing, 1.0])[[2, 1, 0, 3]]
    body_ = upright(Volume(truth[::-1].astype(np.float32), matrix))
    from scan.mip import project

    expected = project(body_, 1.0).suv > 0.5
    overlap = 2 * np.count_nonzero(mask & expected) / (mask.sum() + expected.sum())
    assert overlap > 0.6
    with Image.open(only_folder(tmp_path / "out") / "overlay.png") as picture:
        assert picture.size == mask.shape[::-1]


def test_scan_errors_have_their_place_apart():
    error = ScanError("truncated", "/home/mueller/scan.dcm")
    assert str(error) == "truncated"
    assert error.where == "/home/mueller/scan.dcm"


def test_files_without_preamble_are_read(tmp_path):
    plain = write_series(tmp_path / "plain", suv=SMALL)
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in plain.iterdir():
        data = path.read_bytes()
        length = int.from_bytes(data[140:144], "little")  # of group 2, after its length element
        (bare / path.name).write_bytes(data[144 + length :])
    one, other = pictures_of_both(tmp_path, plain, bare)
    assert one == other


def test_a_nifti_in_a_folder_is_named(tmp_path, capsys):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "suv.nii.gz").write_bytes(b"")
    assert main([str(tmp_path / "study"), "--out", str(tmp_path / "out")]) == 1
    assert "1 NIfTI (which is taken if it is named itself) file" in capsys.readouterr().err
