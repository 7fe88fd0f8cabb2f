"""Geometry and values that are wrong without a word elsewhere: bounded, refused, or warned of."""

import gzip
import json
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pip install -r requirements-scan.txt")
pytest.importorskip("nibabel", reason="pip install -r requirements-scan.txt")

import nibabel

from scan import nifti_in
from scan.cli import main
from scan.errors import ScanError
from scan.mip import project
from scan.source import find
from scan.suv import Given
from scan.volume import Volume, fill_outside, upright
from tests.support.pet_series import PEAKS, SPACING, body

RAS = np.array([[0, 0, -4, 118], [0, -4, 0, 78], [3, 0, 0, 0], [0, 0, 0, 1.0]])
LPS = np.diag([-1, -1, 1, 1.0]) @ RAS


@pytest.fixture(autouse=True)
def baseline(monkeypatch):
    monkeypatch.setenv("MODEL", "baseline")


def refused(path, tmp_path, capsys) -> str:
    assert main([str(path), "--out", str(tmp_path / "out")]) == 1
    assert list((tmp_path / "out").iterdir()) == []
    return capsys.readouterr().err


@pytest.mark.parametrize("spacing", [SPACING, (2.0, 2.0, 2.0), (5.0, 4.0, 3.0)])
def test_a_projection_shows_no_uptake_that_no_voxel_has(spacing):
    suv = np.zeros((40, 12, 60), np.float32)
    suv[10:30, 3:9, 20:40] = 10  # an edge, beside which a cubic kernel overshoots
    suv[20, 5, 10] = 4
    matrix = np.diag([1.0, 1, 1, 1])
    matrix[:3, :3] = [[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]]
    view = project(upright(Volume(suv, matrix)), 7)
    assert 9.9 < view.suv.max() <= 10
    assert view.suv.min() >= 0
    beside = project(upright(Volume(5 - suv / 2 + 1, matrix)), 7)  # the same edge from above
    assert beside.suv.max() <= 6


def write(path, values, affine=RAS, **forms):
    image = nibabel.Nifti1Image(values, affine)
    for name, (form, code) in forms.items():
        getattr(image, f"set_{name}")(form, code=code)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize(
    ("flip", "message"),
    [
        ([-1, 1, 1, 1], "on left and right (-4 and +4 mm a voxel)"),
        ([1, -1, 1, 1], "on front and back (-4 and +4 mm a voxel)"),
        ([1, 1, -1, 1], "on head and feet (+3 and -3 mm a voxel)"),
    ],
)
def test_forms_that_turn_the_patient_round_are_refused(flip, message, code, tmp_path, capsys):
    other = np.diag(flip) @ RAS
    path = write(tmp_path / "a.nii", body(), qform=(other, 1), sform=(RAS, code))
    assert message in refused(path, tmp_path, capsys)


def test_forms_of_one_space_that_lie_apart_are_refused_and_of_two_warned_of(tmp_path, capsys):
    other = RAS.copy()
    other[2, 3] = 500
    path = write(tmp_path / "a.nii", body(), qform=(other, 1), sform=(RAS, 1))
    assert "its sform and its qform place it 500 mm apart" in refused(path, tmp_path, capsys)
    for name, qform in (("b.nii", other), ("c.nii", RAS)):
        path = write(tmp_path / name, body(), qform=(qform, 1), sform=(RAS, 2))
        assert main([str(path), "--out", str(tmp_path / name[0])]) == 0
        said = json.loads(next((tmp_path / name[0]).glob("*/report.json")).read_text())
        apart = [line for line in said["warnings"] if "500 mm apart; the sform is used" in line]
        assert len(apart) == (name == "b.nii")


@pytest.mark.parametrize(("at", "value"), [(70, 137), (108, 67), (123, 255), (256, 128)])
def test_a_damaged_header_is_named_as_such(at, value, tmp_path):
    data = bytearray(write(tmp_path / "a.nii", body(), qform=(RAS, 1)).read_bytes())
    data[at] = value
    data[at + 1] = value
    (tmp_path / "a.nii").write_bytes(data)
    (series,) = find(tmp_path / "a.nii")
    with suppress(ScanError):  # anything else is none of ours
        nifti_in.read(series, Given())


def test_voxel_sizes_that_contradict_each_other_are_refused(tmp_path, capsys):
    path = write(tmp_path / "a.nii", body())
    image = nibabel.load(path)
    image.header["pixdim"][1:4] = 1.5, 2, 2
    nibabel.save(nibabel.Nifti1Image(image.dataobj, None, image.header), tmp_path / "b.nii")
    line = refused(tmp_path / "b.nii", tmp_path, capsys)
    assert "3×4×4 mm, and its pixdim of 1.5×2×2 mm" in line


def test_kilobecquerel_are_no_suv(tmp_path, capsys):
    path = write(tmp_path / "kbq.nii", body() * 5)
    assert "is it in kBq/mL? Give --suv-factor" in refused(path, tmp_path, capsys)
    assert main([str(path), "--out", str(tmp_path / "out"), "--suv-factor", "0.2"]) == 0
    (report,) = (tmp_path / "out").glob("*/report.json")
    assert json.loads(report.read_text())["mip"]["suv_max"] == pytest.approx(max(PEAKS), rel=1e-5)


def test_a_name_that_does_not_fit_the_content_says_so(tmp_path, capsys):
    plain = write(tmp_path / "a.nii", body()).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    assert "not compressed: rename it to end in .nii" in refused(
        tmp_path / "b.nii.gz", tmp_path, capsys
    )
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    assert "compressed: rename it to end in .nii.gz" in refused(
        tmp_path / "c.nii", tmp_path, capsys
    )


def cylinder(values):
    y, x = np.ogrid[:40, :60]
    values[:, ((y - 20) / 20) ** 2 + ((x - 30) / 30) ** 2 > 1] = np.nan  # the field of view


def masked(values):
    values[:24, :, 27:33] = 0  # legs, with air between them
    values[values == 0] = np.nan


@pytest.mark.parametrize("cut", [cylinder, masked])
def test_what_converters_write_outside_is_no_uptake(cut):
    values = body()
    cut(values)
    assert "of the voxels are no numbers" in fill_outside(values)[0]
    assert np.isfinite(values).all()
    assert values.max() == max(PEAKS)


@pytest.mark.parametrize(
    "where",
    [
        np.s_[30],  # a slice through the hottest voxel
        np.s_[:, 20],  # a coronal plane
        np.s_[30, 20],  # a row
        np.s_[30, :, 34],
        np.s_[29:32, 19:22, 33:],  # from the lesion to the border
        np.s_[30, :, 30:],  # half a slice
    ],
)
@pytest.mark.parametrize("cut", [lambda values: None, cylinder, masked])
def test_what_was_lost_on_the_way_is_refused_though_it_reaches_the_border(where, cut):
    values = body()
    cut(values)
    values[where] = np.nan
    with pytest.raises(ScanError, match="inside the body are no numbers"):
        fill_outside(values)


def test_a_body_that_ends_where_numbers_end_is_warned_of():
    values = body()
    values[:42, :, 20:] = np.nan  # a quarter, with half of the liver
    _, line = fill_outside(values)
    assert "is a part of the body missing?" in line


def test_a_lost_file_end_is_noticed(tmp_path):
    write(tmp_path / "a.nii.gz", body())
    data = bytearray((tmp_path / "a.nii.gz").read_bytes())
    data[-8] ^= 1  # of the checksum
    (tmp_path / "a.nii.gz").write_bytes(data)
    (series,) = find(tmp_path / "a.nii.gz")
    with pytest.raises(ScanError, match="damaged"):
        nifti_in.read(series, Given())


def test_a_voxel_of_no_size_is_refused(tmp_path):
    data = bytearray(write(tmp_path / "a.nii", body(), qform=(RAS, 1), sform=(RAS, 0)).read_bytes())
    data[88:92] = bytes(4)  # pixdim of the third axis
    (tmp_path / "a.nii").write_bytes(data)
    (series,) = find(tmp_path / "a.nii")
    with pytest.raises(ScanError, match="damaged"):
        nifti_in.read(series, Given())


def test_metres_said_to_be_millimetres_are_refused(tmp_path, capsys):
    path = write(tmp_path / "a.nii", body(), affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ RAS)
    assert "mm wide, which is no patient" in refused(path, tmp_path, capsys)


def test_no_number_outside_of_the_body_is_no_uptake(tmp_path):
    values = body()
    values[:, :5], values[:, :, -6:] = np.nan, np.inf
    path = write(tmp_path / "a.nii", values)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    (report,) = (tmp_path / "out").glob("*/report.json")
    warnings = json.loads(report.read_text())["warnings"]
    assert any("21.2% of the voxels are no numbers" in line for line in warnings)


def test_no_number_inside_of_the_body_is_refused():
    values = body()
    values[30, 20, 30] = np.nan
    with pytest.raises(ScanError, match="1 voxels inside the body are no numbers"):
        fill_outside(values)
    assert fill_outside(body()) == []
