"""What is no usable PET series: refused in one line, exit code 1, and nothing is written."""

import zipfile

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="requirements-scan.txt is not installed")

from scan.cli import main
from tests.support.pet_series import NAME, body, datasets, other, save, write_series

SMALL = body()[30:42, 8:32, 15:45]


@pytest.fixture(autouse=True)
def baseline(monkeypatch):
    monkeypatch.setenv("MODEL", "baseline")


def refused(source, tmp_path, capsys, *options) -> str:
    """Run the command; return its one error line after checking that nothing was written."""
    out = tmp_path / "out"
    assert main([str(source), "--out", str(out), *options]) == 1
    assert list(out.iterdir()) == []
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def slices(**changes) -> list:
    return datasets(SMALL, **changes)


def test_a_folder_without_pet_names_what_is_there(tmp_path, capsys):
    ct = [other("CT", "1.2.9") for _ in range(3)] + [other("SR")]
    folder = save(ct, tmp_path / "study")
    (folder / "notes.txt").write_text("hello")
    line = refused(folder, tmp_path, capsys)
    assert "no PET series" in line
    assert "3 CT files" in line
    assert "1 SR file" in line
    assert "1 non-DICOM file" in line


def test_an_empty_folder(tmp_path, capsys):
    (tmp_path / "study").mkdir()
    assert "found no file" in refused(tmp_path / "study", tmp_path, capsys)


def test_a_file_that_is_no_dicom(tmp_path, capsys):
    path = tmp_path / "scan.dcm"
    path.write_bytes(b"x" * 1000)
    assert "no PET series" in refused(path, tmp_path, capsys)


def test_missing_slices(tmp_path, capsys):
    series = slices()
    del series[5]
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "missing slices: a gap of 6.00 mm where slices are 3.00 mm apart" in line


def test_slices_missing_at_the_end_are_known_by_their_number(tmp_path, capsys):
    series = slices(NumberOfSlices=12)[:-2]
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "10 files, but NumberOfSlices (0054,0081) is 12" in line


def test_doubled_slices(tmp_path, capsys):
    series = slices()
    line = refused(save([*series, series[4]], tmp_path / "study"), tmp_path, capsys)
    assert "doubled slices: 1 lie" in line


def test_uneven_spacing(tmp_path, capsys):
    series = slices()
    for k, one in enumerate(series):
        one.ImagePositionPatient = [-118, -78, 3 * k + 0.7 * (k > 6)]
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "unevenly spaced slices: 3.00 to 3.70 mm" in line


def test_gantry_tilt_in_the_positions(tmp_path, capsys):
    series = slices()
    for k, one in enumerate(series):
        one.ImagePositionPatient = [-118, -78 + 0.8 * k, 3 * k]
    assert "gantry tilt" in refused(save(series, tmp_path / "study"), tmp_path, capsys)


def test_gantry_tilt_in_the_header(tmp_path, capsys):
    folder = save(slices(GantryDetectorTilt=12), tmp_path / "study")
    assert "GantryDetectorTilt (0018,1120) is 12" in refused(folder, tmp_path, capsys)


@pytest.mark.parametrize("kind", ["DYNAMIC", "GATED"])
def test_series_of_4_d_types(kind, tmp_path, capsys):
    folder = save(slices(SeriesType=[kind, "IMAGE"]), tmp_path / "study")
    assert f"4-D data (SeriesType (0054,1000) is {kind})" in refused(folder, tmp_path, capsys)


def test_a_count_of_time_frames(tmp_path, capsys):
    folder = save(slices(NumberOfTimeSlices=3), tmp_path / "study")
    assert "4-D data (NumberOfTimeSlices (0054,0101) is 3)" in refused(folder, tmp_path, capsys)


def test_two_frames_at_each_place(tmp_path, capsys):
    frames = slices()
    later = slices(AcquisitionTime="110500")
    for k, one in enumerate(later):
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{k}"
    line = refused(save(frames + later, tmp_path / "study"), tmp_path, capsys)
    assert "4-D data, or doubled slices" in line


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName"])
def test_two_patients_in_one_series_are_not_named(keyword, tmp_path, capsys):
    series = slices()
    setattr(series[3], keyword, "Somebody")
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "two patients" in line
    assert "Somebody" not in line


def test_slices_of_two_sizes(tmp_path, capsys):
    series = slices()
    series[2].Rows, series[2].Columns = 12, 60
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "slices differ in Rows (0028,0010): 24 and 12" in line


def test_without_attenuation_correction(tmp_path, capsys):
    folder = save(slices(CorrectedImage=["DECY"]), tmp_path / "study")
    assert "not corrected for attenuation" in refused(folder, tmp_path, capsys)


def test_a_missing_weight_can_be_supplied(tmp_path, capsys):
    folder = save(slices(PatientWeight=None), tmp_path / "study")
    line = refused(folder, tmp_path, capsys)
    assert "PatientWeight (0010,1030) is missing; give --weight KG" in line
    assert main([str(folder), "--out", str(tmp_path / "out"), "--weight", "70"]) == 0


def test_becquerel_that_call_themselves_suv(tmp_path, capsys):
    folder = save(slices(Units="GML"), tmp_path / "study")
    assert "its values cannot be SUV" in refused(folder, tmp_path, capsys)


def test_a_negative_mean(tmp_path, capsys):
    folder = save(datasets(-SMALL), tmp_path / "study")
    assert "its values cannot be SUV: mean -" in refused(folder, tmp_path, capsys)


@pytest.mark.parametrize(("slope", "said"), [(0, "0, expected above 0"), (None, "missing")])
def test_a_slope_of_zero_and_none(slope, said, tmp_path, capsys):
    series = slices()
    series[3].RescaleSlope = slope
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert f"RescaleSlope (0028,1053) is {said}" in line


def test_a_pixel_spacing_of_zero(tmp_path, capsys):
    series = slices()
    for one in series:
        one.PixelSpacing = [0, 2]
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "PixelSpacing (0028,0030) is 0, 2 mm, expected above 0" in line


def test_a_file_cut_in_its_pixels(tmp_path, capsys):
    folder = save(slices(), tmp_path / "study")
    path = sorted(folder.iterdir())[3]
    path.write_bytes(path.read_bytes()[:-500])
    line = refused(folder, tmp_path, capsys)
    assert path.name in line
    assert "pixels cannot be read" in line


@pytest.mark.parametrize("length", [200, 420, 700])
def test_a_file_cut_in_its_header(length, tmp_path, capsys):
    folder = save(slices(), tmp_path / "study")
    path = sorted(folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:length])
    assert path.name in refused(folder, tmp_path, capsys)


@pytest.mark.parametrize("place", [None, [0], [0, 0, 0, 0]])
def test_no_position(place, tmp_path, capsys):
    series = slices()
    for one in series:
        one.ImagePositionPatient = place
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "ImagePositionPatient (0020,0032)" in line


def test_a_single_slice(tmp_path, capsys):
    assert "single slice" in refused(save(slices()[:1], tmp_path / "study"), tmp_path, capsys)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("1.2.840.10008.5.1.4.1.1.130", "Enhanced PET"),
     ("1.2.840.10008.5.1.4.1.1.128.1", "Legacy Converted Enhanced PET")],
)  # fmt: skip
def test_multi_frame_pet_is_refused_by_name(kind, name, tmp_path, capsys):
    one = slices()[0]
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = kind
    assert f"it is {name} (multi-frame)" in refused(save([one], tmp_path / "s"), tmp_path, capsys)


def test_a_projection_is_no_volume(tmp_path, capsys):
    folder = save(slices(SeriesType=["WHOLE BODY", "REPROJECTION"]), tmp_path / "study")
    assert "found 12 PT projection files" in refused(folder, tmp_path, capsys)


def test_an_oblique_series(tmp_path, capsys):
    series = slices()
    cos, sin = np.cos(0.3), np.sin(0.3)
    for k, one in enumerate(series):
        one.ImageOrientationPatient = [f"{v:.8f}" for v in (cos, sin, 0, -sin, cos, 0)]
        one.ImagePositionPatient = [0, 0, 3 * k]
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "17 degrees off the patient's" in line


def test_a_zip_bomb_is_not_unpacked(tmp_path, capsys, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.dcm", bytes(80 * 2**20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *a, **k: pytest.fail("it was unpacked"))
    assert "ZIP bomb" in refused(path, tmp_path, capsys)


def test_a_zip_of_very_many_large_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("scan.source.MOST_UNPACKED", 10_000)
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", bytes(20_000))
    assert "would unpack to 1 files" in refused(path, tmp_path, capsys)


def test_a_damaged_zip(tmp_path, capsys):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k, one in enumerate(slices()):
            one.save_as(tmp_path / "one", enforce_file_format=True)
            archive.write(tmp_path / "one", f"pet/{k}.dcm")
    damaged = bytearray(path.read_bytes())
    damaged[3000:4000] = bytes(1000)
    path.write_bytes(damaged)
    refused(path, tmp_path, capsys)
    path.write_bytes(path.read_bytes()[:-2000])
    assert "the ZIP is damaged or truncated" in refused(path, tmp_path, capsys)


def test_a_broken_series_never_stops_the_others(tmp_path, capsys):
    study = tmp_path / "study"
    write_series(study / "good", suv=SMALL)
    write_series(study / "bad", suv=SMALL, SeriesInstanceUID="1.2.3.9", Units="NONE")
    save([other("CT")], study / "ct")
    assert main([str(study), str(tmp_path / "study"), "--out", str(tmp_path / "out")]) == 1
    assert len(list((tmp_path / "out").iterdir())) == 1
    captured = capsys.readouterr()
    assert "1 series done, 0 were done before, 1 failed" in captured.out
    assert "Units (0054,1001) is NONE" in captured.err


def test_a_type_that_dicom_does_not_have_is_a_damaged_file(tmp_path, capsys):
    folder = save(slices(), tmp_path / "study")
    path = sorted(folder.iterdir())[0]
    data = path.read_bytes()
    class_uid = data.index(b"\x08\x00\x16\x00UI")
    path.write_bytes(data[: class_uid + 4] + b"UQ" + data[class_uid + 6 :])
    assert path.name in refused(folder, tmp_path, capsys)


def test_pet_without_a_series_uid_is_a_damaged_file(tmp_path, capsys):
    series = slices()
    series[3].SeriesInstanceUID, series[3].Modality = "", "XX"
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "a file beside it is damaged" in line


@pytest.mark.parametrize("keyword", ["NumberOfSlices", "GantryDetectorTilt", "RescaleSlope"])
def test_numbers_that_are_none_are_named(keyword, tmp_path, capsys):
    folder = save(slices(NumberOfSlices=12, GantryDetectorTilt=0), tmp_path / "study")
    path = sorted(folder.iterdir())[0]
    import pydicom

    one = pydicom.dcmread(path)
    one[keyword].VR = "LO"
    one[keyword].value = "many"
    one.save_as(path)
    assert f"{keyword} (" in refused(folder, tmp_path, capsys)


def _changed(keyword, value, where=slice(5, 6)):
    series = slices()
    for one in series[where]:
        setattr(one, keyword, value)
    return series


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("RescaleSlope", "1e45", "cannot be SUV"),
        ("RescaleSlope", ["0.1", "5"], "RescaleSlope (0028,1053) has 2 values"),
        ("SeriesType", ["GATED", "IMAGE"], "4-D data (SeriesType"),
        ("GantryDetectorTilt", "10", "gantry tilt"),
        ("NumberOfTimeSlices", 3, "4-D data (NumberOfTimeSlices"),
        ("NumberOfSlices", 99, "missing slices"),
        ("PatientSex", "M", "two patients: they differ in PatientSex"),
        ("PatientBirthDate", "19700101", "two patients: they differ in PatientBirthDate"),
        ("SOPInstanceUID", "1.2.3.4.5.1", "two slices have the same SOPInstanceUID"),
    ],
)
def test_what_is_wrong_in_one_slice_is_wrong(keyword, value, message, tmp_path, capsys):
    assert message in refused(save(_changed(keyword, value), tmp_path / "s"), tmp_path, capsys)


def test_slices_beside_each_other(tmp_path, capsys):
    series = slices()
    for one in series[5:8]:
        one.ImagePositionPatient[0] += 60
    line = refused(save(series, tmp_path / "study"), tmp_path, capsys)
    assert "do not lie behind each other: one is 60.0 mm aside" in line


@pytest.mark.parametrize("length", [0, 100])
def test_a_damaged_slice_at_an_end_is_no_other_file(length, tmp_path, capsys):
    folder = save(slices(), tmp_path / "study")
    last = sorted(folder.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:length])
    assert last.name in refused(folder, tmp_path, capsys)


@pytest.mark.parametrize(
    "changes",
    [
        {"CorrectedImage": ["DECY", "SCAT", "ATTN"]},
        {"PatientName": NAME.upper() + "^^"},
        {"SeriesTime": "110000.4"},
    ],
)
def test_another_form_is_no_difference(changes, tmp_path):
    (keyword, value), *_ = changes.items()
    study = save(_changed(keyword, value), tmp_path / "study")
    assert main([str(study), "--out", str(tmp_path / "out")]) == 0
