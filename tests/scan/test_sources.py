"""Which files are whose: content decides, not names, sizes and times."""

import json
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pip install -r requirements-scan.txt")
pytest.importorskip("nibabel", reason="pip install -r requirements-scan.txt")

import nibabel
import pydicom

from scan.cli import main
from tests.support.pet_series import NAME, PATIENT, body, datasets, save, write_series
from tumour_segmenter import files

SMALL = body()[30:42, 8:32, 15:45]
RAS = np.array([[0, 0, -4, 118], [0, -4, 0, 78], [3, 0, 0, 0], [0, 0, 0, 1.0]])


@pytest.fixture(autouse=True)
def baseline(monkeypatch):
    monkeypatch.setenv("MODEL", "baseline")


def nifti(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, RAS), path)
    os.utime(path, ns=(1, 1))
    return path


def test_files_of_one_name_size_and_time_are_two_patients(tmp_path, capsys):
    one = nifti(tmp_path / "sub-01/suv.nii", SMALL)
    other = nifti(tmp_path / "sub-02/suv.nii", SMALL[::-1].copy())
    out = tmp_path / "out"
    for number, path in enumerate((one, other)):
        command = [str(path), "--out", str(out), "--csv", str(tmp_path / f"{number}.csv")]
        assert main(command) == 0
        assert "1 series done, 0 were done before" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 2
    assert (tmp_path / "0.csv").read_text() != (tmp_path / "1.csv").read_text()
    assert "sub-0" not in (tmp_path / "0.csv").read_text()
    assert main([str(one), "--out", str(out)]) == 0
    assert "0 series done, 1 were done before" in capsys.readouterr().out


def test_a_nifti_that_changed_is_done_again_beside_its_old_results(tmp_path, capsys):
    path = nifti(tmp_path / "suv.nii", SMALL)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    nifti(path, SMALL * 0.9)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    assert "1 series done" in capsys.readouterr().out.splitlines()[-1]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_two_patients_with_one_series_uid_are_two_folders(tmp_path, capsys):
    out = tmp_path / "out"
    for name, black in (("one", 12), ("other", 9)):
        study = write_series(tmp_path / name, suv=SMALL * black / 12, PatientID=name)
        assert main([str(study), "--out", str(out)]) == 0
        assert "1 series done, 0 were done before" in capsys.readouterr().out
    highest = [json.loads(f.read_text())["mip"]["suv_max"] for f in out.glob("*/report.json")]
    assert sorted(highest) == pytest.approx([9, 12], rel=1e-3)


@pytest.mark.skipif(not shutil.which("dcmmkdir"), reason="dcmmkdir is missing: install dcmtk")
def test_a_dicomdir_beside_the_slices_is_passed_over(tmp_path, capsys):
    study = tmp_path / "study"
    save(datasets(SMALL), study / "IMAGES")
    for number, path in enumerate(sorted((study / "IMAGES").iterdir())):
        path.rename(study / "IMAGES" / f"IM{number:04d}")
    # It wants instance and series numbers, and is made as for a CD.
    for path in (study / "IMAGES").iterdir():
        one = pydicom.dcmread(path)
        one.StudyID, one.SeriesNumber = "1", 1
        one.save_as(path)
    subprocess.run(
        ["dcmmkdir", "+r", "+id", str(study), "+D", str(study / "DICOMDIR"), "-Pgp"],
        cwd=study, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (study / "DICOMDIR").stat().st_size > 1000
    assert main([str(study), "--out", str(tmp_path / "out")]) == 0
    assert main([str(study / "DICOMDIR"), "--out", str(tmp_path / "none")]) == 1
    error = capsys.readouterr().err
    assert "no PET series" in error
    assert "1 DICOMDIR file" in error


@pytest.mark.parametrize("form", ["meta", "little", "big"])
def test_slices_without_a_preamble_are_slices(form, tmp_path):
    whole, bare = save(datasets(SMALL), tmp_path / "a"), save(datasets(SMALL), tmp_path / "b")
    for path in sorted(bare.iterdir())[-3:]:
        if form == "big":
            one = pydicom.dcmread(path)
            one.PixelData = one.pixel_array.astype(">u2").tobytes()
            one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
            big = {"implicit_vr": False, "little_endian": False, "force_encoding": True}
            pydicom.dcmwrite(path, one, **big)
        data = path.read_bytes()[132:]
        if form != "meta":  # group 2 says its own length first
            data = data[12 + int.from_bytes(data[8:12], "little") :]
        path.write_bytes(data)
    pictures = []
    for folder in (whole, bare):
        out = tmp_path / f"out {folder.name}"
        assert main([str(folder), "--out", str(out)]) == 0
        (mip,) = out.glob("*/mip.png")
        pictures.append(mip.read_bytes())
    assert pictures[0] == pictures[1]


def test_two_commands_with_one_out_take_turns(tmp_path):
    study, out = write_series(tmp_path / "study", suv=SMALL), tmp_path / "out"
    out.mkdir()
    done = []
    with files.locked(out):
        work = threading.Thread(target=lambda: done.append(main([str(study), "--out", str(out)])))
        work.start()
        work.join(1.5)
        assert not done
        assert not list(out.glob("pet-*"))
    work.join(30)
    assert done == [0]
    assert len(list(out.glob("pet-*"))) == 1


def test_nobody_is_named_in_the_table(tmp_path, capsys):
    surname = NAME.split("^")[0].upper()
    table = tmp_path / "t.csv"
    named = nifti(tmp_path / f"{surname}_{PATIENT}.nii", SMALL)
    broken = write_series(tmp_path / "units", suv=SMALL, Units=surname)
    other = datasets(SMALL, SeriesInstanceUID="1.2.9")
    other[0].PatientWeight, other[0].RescaleSlope = 70, 1e9
    bad = save(other, tmp_path / "bad")
    sources = [str(path) for path in (named, named, broken, bad)]
    assert main([*sources, "--out", str(tmp_path / "out"), "--csv", str(table)]) == 1
    text = table.read_text()
    for word in (surname, PATIENT, str(tmp_path)):
        assert word.lower() not in text.lower()
    assert "an unknown word" in text


def test_an_unexpected_error_is_named_and_no_more_in_the_table(tmp_path, monkeypatch, capsys):
    def fails(*_, **__):
        raise RuntimeError(f"at {NAME}")

    monkeypatch.setattr("scan.work.project", fails)
    study, table = write_series(tmp_path / "study", suv=SMALL), tmp_path / "t.csv"
    assert main([str(study), "--out", str(tmp_path / "out"), "--csv", str(table)]) == 1
    assert "an unexpected RuntimeError" in table.read_text()
    assert NAME not in table.read_text()
    assert NAME in capsys.readouterr().err


def test_lesions_say_how_probable_they_are(tmp_path, monkeypatch):
    from scan.model import Model
    from tumour_segmenter.segmenter import Prediction

    def predicted(self, pixels):
        mask = np.where(pixels < 50, np.uint8(255), np.uint8(0))
        probability = np.where(mask > 0, np.uint8(204), np.uint8(0))
        probability[np.unravel_index(pixels.argmin(), pixels.shape)] = 255
        return Prediction(mask, probability)

    monkeypatch.setattr(Model, "__call__", predicted)
    study, table = write_series(tmp_path / "study"), tmp_path / "t.csv"
    assert main([str(study), "--out", str(tmp_path / "out"), "--csv", str(table)]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    lesions = json.loads((folder / "report.json").read_text())["lesions"]
    assert {lesion["probability"]["highest"] for lesion in lesions} == {0.8, 1.0}
    assert all(0.8 <= lesion["probability"]["mean"] <= 1 for lesion in lesions)
    assert "highest_probability" in table.read_text().splitlines()[0]
    assert ",1.0000," in table.read_text()
    assert "<th>probability</th>" in (folder / "report.html").read_text()


def test_a_table_is_written_over_no_other_file(tmp_path, capsys):
    study, out = write_series(tmp_path / "study", suv=SMALL), tmp_path / "out"
    slice_ = sorted(study.iterdir())[0]
    before = slice_.read_bytes()
    assert main([str(study), "--out", str(out), "--csv", str(slice_)]) == 2
    assert "no table of series" in capsys.readouterr().err
    assert slice_.read_bytes() == before


def test_no_free_text_of_a_header_is_in_the_results(tmp_path):
    surname = NAME.split("^")[0]
    with pydicom.config.disable_value_validation():
        changes = {
            "SeriesDate": surname,
            "SeriesDescription": f"PET {surname}2",
            "Radiopharmaceutical": "for Mrs Novak",
            "StudyInstanceUID": surname,
            "PositionReferenceIndicator": "Novak",
            "CollimatorType": "NOVAK",
        }
        study, table = write_series(tmp_path / "study", suv=SMALL, **changes), tmp_path / "t.csv"
    assert main([str(study), "--out", str(tmp_path / "out"), "--csv", str(table), "--dicom"]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    for path in (table, *(folder / name for name in ("report.json", "report.html", "mip.dcm"))):
        data = path.read_bytes().lower()
        assert surname.lower().encode() not in data
        assert path.name == "mip.dcm" or b"novak" not in data
    image = pydicom.dcmread(folder / "mip.dcm")
    assert (image.PositionReferenceIndicator, image.CollimatorType) == ("", "NONE")
