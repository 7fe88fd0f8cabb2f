"""What other programs make of the results, and of the series that they are made from."""

import json
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="requirements-scan.txt is not installed")
pytest.importorskip("highdicom", reason="requirements-scan.txt is not installed")

import pydicom
from PIL import Image

from scan import dicom_in, nifti_in
from scan.cli import main
from scan.mip import project
from scan.source import find
from scan.suv import Given
from scan.volume import upright
from tests.support.pet_series import FACTOR, NAME, PATIENT, body, datasets, save, write_series

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def baseline(monkeypatch):
    monkeypatch.setenv("MODEL", "baseline")


def results(tmp_path, *options, **changes):
    study = write_series(tmp_path / "study", **changes)
    assert main([str(study), "--out", str(tmp_path / "out"), "--dicom", *options]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    return folder


def test_the_projection_and_its_segmentation(tmp_path):
    folder = results(tmp_path)
    image = pydicom.dcmread(folder / "mip.dcm")
    suv = image.pixel_array * float(image.RescaleSlope)
    grey = np.asarray(Image.open(folder / "mip.png")).astype(int)
    expected = 255 - np.round(255 * np.clip(suv / 7, 0, 1))
    assert np.abs(grey - expected).max() <= 1
    assert image.Units == "GML"
    assert image.StudyInstanceUID == "1.2.3.4"
    assert image.FrameOfReferenceUID == "1.2.3.4.6"
    assert image.PixelSpacing == [2, 2.036]
    assert image.ImageOrientationPatient == [1, 0, 0, 0, 0, -1]
    assert len(image.SourceImageSequence) == 70
    # The first row is that of the last slice; the last column lies on the patient's left.
    assert image.ImagePositionPatient[2] == pytest.approx(69 * 3, abs=2)
    assert image.ImagePositionPatient[0] == pytest.approx(-199.5 * 2.036)

    seg = pydicom.dcmread(folder / "mask.dcm")
    mask = np.asarray(Image.open(folder / "mask.png"))[..., 0]
    assert np.array_equal(seg.pixel_array.reshape(mask.shape), mask // 255)
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == image.SeriesInstanceUID
    (reference,) = series.ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert seg.StudyInstanceUID == image.StudyInstanceUID
    assert seg.SegmentSequence[0].SegmentLabel == "Tumour"


def test_the_patient_is_left_out_unless_asked_for(tmp_path):
    for folder, name, identity in (
        (results(tmp_path / "without"), "", ""),
        (results(tmp_path / "with", "--dicom-patient"), NAME, PATIENT),
    ):
        for file in ("mip.dcm", "mask.dcm"):
            found = pydicom.dcmread(folder / file)
            assert (str(found.PatientName), found.PatientID or "") == (name, identity)


def test_an_empty_mask_is_a_segmentation_too(tmp_path):
    folder = results(tmp_path, suv=np.minimum(body(), 3))
    seg = pydicom.dcmread(folder / "mask.dcm")
    assert not seg.pixel_array.any()


def test_a_nifti_has_dicom_results_too(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0, 0, -4, 118], [0, -4, 0, 78], [3, 0, 0, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(body(), affine), tmp_path / "suv.nii")
    assert main([str(tmp_path / "suv.nii"), "--out", str(tmp_path / "out"), "--dicom"]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    check_standard(folder)


def check_standard(folder):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian's dicom3tools)")
    for file, kind in (("mip.dcm", "PETImage"), ("mask.dcm", "Segmentation")):
        done = subprocess.run(
            ["dciodvfy", str(folder / file)], capture_output=True, text=True, timeout=60
        )
        assert kind in done.stderr
        assert "Error" not in done.stderr, done.stderr
        assert done.returncode == 0


@pytest.mark.parametrize("options", [[], ["--dicom-patient"]])
def test_dciodvfy_finds_no_error(options, tmp_path):
    check_standard(results(tmp_path, *options))


def test_simpleitk_reads_the_results_where_they_lie(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (tests only)")
    folder = results(tmp_path)
    image = sitk.ReadImage(str(folder / "mip.dcm"))
    seg = sitk.ReadImage(str(folder / "mask.dcm"))
    values = sitk.GetArrayFromImage(image)[0]
    assert image.GetSpacing()[:2] == pytest.approx((2.036, 2))
    assert seg.GetOrigin() == pytest.approx(image.GetOrigin())
    assert seg.GetSpacing()[:2] == pytest.approx(image.GetSpacing()[:2])
    marked = sitk.GetArrayFromImage(seg)[0] > 0
    assert marked.any()
    assert values[marked].min() > 5.5  # the baseline marks what is darker than 50
    # The hottest voxel is found where it lies in the patient.
    row, column = np.unravel_index(values.argmax(), values.shape)
    x, _, z = image.TransformIndexToPhysicalPoint((int(column), int(row), 0))
    assert x == pytest.approx((34 - 29.5) * 4, abs=2.1)
    assert z == pytest.approx(30 * 3, abs=2.1)


def ours(folder):
    (series,) = find(folder)
    scan = dicom_in.read(series, Given())
    return scan.volume, scan.suv


def test_simpleitk_reads_the_same_volume(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (tests only)")
    folder = write_series(tmp_path / "study")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    theirs = sitk.GetArrayFromImage(image) * FACTOR
    volume, suv = ours(folder)
    assert suv.factor == pytest.approx(FACTOR)
    np.testing.assert_allclose(volume.suv, theirs, atol=1e-3)
    np.testing.assert_allclose(volume.affine[:3, 3], image.GetOrigin(), atol=1e-4)
    for index in ((0, 0, 0), (69, 39, 59), (10, 20, 30)):
        place = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], place, atol=1e-3)


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is not installed")
def test_dcm2niix_makes_a_nifti_with_the_same_projection(tmp_path):
    pytest.importorskip("nibabel")
    folder = write_series(tmp_path / "study")
    (tmp_path / "nifti").mkdir()
    command = ["dcm2niix", "-z", "n", "-f", "pet", "-o", str(tmp_path / "nifti"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    volume, suv = ours(folder)
    (series,) = find(tmp_path / "nifti" / "pet.nii")
    theirs = nifti_in.read(series, Given(suv_factor=suv.factor)).volume
    one, other = (project(upright(v), 7) for v in (volume, theirs))
    assert one.suv.shape == other.suv.shape
    np.testing.assert_allclose(one.suv, other.suv, atol=0.01)
    assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1


def test_coronal_slices_are_a_volume_like_any_other(tmp_path):
    axial = write_series(tmp_path / "axial")
    suv = body()
    coronal = datasets(suv.transpose(1, 0, 2), spacing=(4.0, 3.0, 4.0))
    for k, one in enumerate(coronal):
        one.ImageOrientationPatient = [1, 0, 0, 0, 0, 1]
        one.ImagePositionPatient = [-118, -78 + 4 * k, 0]
    one, other = (
        project(upright(ours(folder)[0]), 7)
        for folder in (axial, save(coronal, tmp_path / "coronal"))
    )
    np.testing.assert_allclose(one.suv, other.suv, atol=2e-3)


def uids(folder):
    return [str(pydicom.dcmread(folder / f).SOPInstanceUID) for f in ("mip.dcm", "mask.dcm")]


def test_one_uid_never_names_two_objects(tmp_path):
    command = [str(write_series(tmp_path / "study")), "--dicom", "--out"]
    assert main([*command, str(tmp_path / "a")]) == main([*command, str(tmp_path / "b")]) == 0
    (one,), (other,) = ((tmp_path / name).iterdir() for name in "ab")
    assert len({*uids(one), *uids(other)}) == 4


def test_a_tilted_volume_lies_where_it_is(tmp_path):
    angle = np.radians(4.5)
    cosine, sine = np.cos(angle), np.sin(angle)
    slices = datasets()
    for k, one in enumerate(slices):  # turned about the x axis
        one.ImageOrientationPatient = [1, 0, 0, 0, cosine, sine]
        up = 3.0 * k
        one.ImagePositionPatient = [-118, -78 * cosine - up * sine, -78 * sine + up * cosine]
    study = save(slices, tmp_path / "study")
    assert main([str(study), "--out", str(tmp_path / "out"), "--dicom"]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    image = pydicom.dcmread(folder / "mip.dcm")
    right, down = np.split(np.array([float(v) for v in image.ImageOrientationPatient]), 2)
    np.testing.assert_allclose(right, [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(down, [0, sine, -cosine], atol=1e-9)
    row, column = np.unravel_index(image.pixel_array.argmax(), image.pixel_array.shape)
    place = np.array([float(v) for v in image.ImagePositionPatient])
    place = place + column * 2.036 * right + row * 2 * down
    # The hottest voxel, and the middle of the body from front to back.
    y, z = -78 + 4 * 19.5, 3.0 * 30
    expected = [-118 + 4 * 34, y * cosine - z * sine, y * sine + z * cosine]
    np.testing.assert_allclose(place, expected, atol=2.1)


@pytest.mark.parametrize(
    "charset",
    ["\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "ISO 2022 IR 100", "ISO_IR 6", "UTF-8", "KLINGON"],
)
def test_any_character_set_of_the_source_gives_results_in_utf_8(charset, tmp_path):
    study = write_series(tmp_path / "study", SpecificCharacterSet="ISO_IR 192")
    text = charset.encode() + b" " * (len(charset) % 2)
    for path in study.iterdir():  # pydicom would not write all of them
        data, written = path.read_bytes(), b"CS\x0a\x00ISO_IR 192"
        assert data.count(written) == 1
        own = b"CS" + len(text).to_bytes(2, "little") + text
        path.write_bytes(data.replace(written, own))
    command = [str(study), "--out", str(tmp_path / "out"), "--dicom", "--dicom-patient"]
    assert main(command) == 0
    (folder,) = (tmp_path / "out").iterdir()
    for file in ("mip.dcm", "mask.dcm"):
        assert pydicom.dcmread(folder / file).SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", "2024-1-15"),
        ("StudyTime", "quarter past"),
        ("PatientBirthDate", "in March"),
        ("PatientSex", "a lady"),
        ("PatientSex", "FEMALE"),
        ("StudyID", "one\\two"),
        ("StudyTime", "095500\\095600"),
        ("PatientBirthDate", "19510203\\19520203"),
        ("FrameOfReferenceUID", "1.2\\3.4"),
        ("AcquisitionDate", "20241301"),
        ("StudyInstanceUID", "1.2.x"),
        ("FrameOfReferenceUID", "frame"),
        ("SOPInstanceUID", "1..2"),
        ("RadiopharmaceuticalStartTime", "at ten"),
    ],
)
def test_a_value_that_cannot_be_read_is_left_out_with_a_warning(keyword, value, tmp_path):
    with pydicom.config.disable_value_validation():
        slices = datasets(body()[30:42, 8:32, 15:45], **{keyword: value})
        if keyword == "SOPInstanceUID":
            slices[0].SOPInstanceUID = value
        study = save(slices, tmp_path / "study")
    given = ["--scan-time", "2024-01-15 11:00:00", "--suv-factor", str(FACTOR)]
    command = [str(study), "--out", str(tmp_path / "out"), "--dicom", "--dicom-patient", *given]
    assert main(command) == 0
    (folder,) = (tmp_path / "out").iterdir()
    warnings = json.loads((folder / "report.json").read_text())["warnings"]
    assert any(line.startswith(f"{keyword} (") and "left out" in line for line in warnings)
    for file in ("mip.dcm", "mask.dcm"):
        assert value.encode() not in (folder / file).read_bytes()


def test_a_number_that_cannot_be_read_is_left_out_with_a_warning(tmp_path):
    study = write_series(tmp_path / "study")
    for path in study.iterdir():
        data = path.read_bytes()
        weight = b"DS\x04\x0070.0"  # explicit VR, four bytes
        assert data.count(weight) == 1
        path.write_bytes(data.replace(weight, weight.replace(b".", b",")))
    command = [str(study), "--out", str(tmp_path / "out"), "--dicom", "--suv-factor", str(FACTOR)]
    assert main(command) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert pydicom.dcmread(folder / "mip.dcm").get("PatientWeight") is None
    warnings = json.loads((folder / "report.json").read_text())["warnings"]
    assert any("PatientWeight (0010,1030) cannot be read" in line for line in warnings)


def test_the_tracer_is_that_of_the_suv(tmp_path):
    options = ["--dose", "400", "--injection-time", "10:05"]
    folder = results(tmp_path, *options, RadionuclideTotalDose="350")  # in MBq
    (item,) = pydicom.dcmread(folder / "mip.dcm").RadiopharmaceuticalInformationSequence
    assert item.RadionuclideTotalDose == 4e8
    assert item.RadiopharmaceuticalStartTime == "100500"
    assert item.RadiopharmaceuticalStartDateTime == "20240115100500"
