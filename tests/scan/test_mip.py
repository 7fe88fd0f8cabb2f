"""A volume of any orientation, spacing and matrix becomes the challenge's projection."""

import gzip
import itertools
import json

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="requirements-scan.txt is not installed")
pytest.importorskip("nibabel", reason="requirements-scan.txt is not installed")

import nibabel
from PIL import Image

from scan.cli import main
from scan.errors import ScanError
from scan.geometry import COLUMNS, column_taps, row_taps
from scan.lesions import largest_distance, measure
from scan.mip import grey, project
from scan.source import find
from scan.volume import Volume, upright
from tests.support.pet_series import LESIONS, PEAKS, SPACING, body

# Index (slice from the feet, row from anterior, column from the right) -> mm to the left,
# posterior and head.
LPS = np.array(
    [[0, 0, SPACING[2], -118], [0, SPACING[1], 0, -78], [SPACING[0], 0, 0, 0], [0, 0, 0, 1.0]]
)
RAS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ LPS
TURNS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


@pytest.fixture(autouse=True)
def baseline(monkeypatch):
    monkeypatch.setenv("MODEL", "baseline")


def turned(values, affine, axes, flips):
    """The same volume with other axes: the array and its affine."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for new, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        matrix[axis, new] = -1 if flip else 1
        matrix[axis, 3] = values.shape[axis] - 1 if flip else 0
    view = values.transpose(axes)
    view = view[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return np.ascontiguousarray(view), affine @ matrix


def projected(values, affine, black=7.0):
    return project(upright(Volume(values, affine)), black)


def save(path, values, affine, known=True):
    image = nibabel.Nifti1Image(values, affine)
    if not known:
        image.set_qform(affine, code=0)
        image.set_sform(affine, code=0)
    nibabel.save(image, path)
    return path


def only(out):
    (folder,) = out.iterdir()
    return folder


@pytest.mark.slow
def test_all_48_orientations_of_a_nifti_give_the_same_projection_and_lesions(tmp_path):
    suv = body()[::2, ::2]  # other spacing along each axis
    affine = RAS @ np.diag([2, 2, 1, 1])
    names = []
    for number, (axes, flips) in enumerate(TURNS):
        names.append(save(tmp_path / f"n{number}.nii", *turned(suv, affine, axes, flips)))
    assert len(names) == 48
    assert main([*map(str, names), "--out", str(tmp_path / "out")]) == 0
    folders = [tmp_path / "out" / find(name)[0].name for name in names]
    pictures = [np.asarray(Image.open(folder / "mip.png")) for folder in folders]
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    assert (pictures[0] == 0).any()
    for (axes, flips), picture, report in zip(TURNS, pictures, reports, strict=True):
        assert np.array_equal(picture, pictures[0])
        assert len(report["lesions"]) == len(reports[0]["lesions"]) > 0
        for lesion, first in zip(report["lesions"], reports[0]["lesions"], strict=True):
            index = lesion["hottest"]["index"]
            values, _ = turned(suv, affine, axes, flips)
            assert values[tuple(index)] == pytest.approx(lesion["suv_max"])
            assert lesion["centroid_mm"] == pytest.approx(first["centroid_mm"])
            assert lesion["area_mm2"] == first["area_mm2"]


def test_head_up_and_the_patients_left_on_the_right():
    suv = np.full((100, 20, 100), 0.1, np.float32)
    suv[90, 10, 80] = 9  # near the head, on the left
    view = projected(suv, LPS)
    row, column = np.unravel_index(view.suv.argmax(), view.suv.shape)
    assert row == pytest.approx((99 - 90) * SPACING[0] / 2, abs=1)
    assert column == pytest.approx(199.5 + (80 - 49.5) * SPACING[2] / 2.036, abs=1)
    assert view.pixels[row, column] == 0


def test_the_challenges_own_grid_is_taken_as_it_is():
    random = np.random.default_rng(0)
    suv = random.uniform(0, 9, (21, 8, 400)).astype(np.float32)
    matrix = np.array([[0, 0, 2.03642, 0], [0, 2.03642, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    view = projected(suv, matrix)
    assert view.suv.shape == (31, 400)  # 3 rows for 2 slices, and the last
    # The last and each third row above it are slices, and between them it is cubic.
    np.testing.assert_allclose(view.suv[::-1][::3], suv[::2].max(axis=1), rtol=1e-6)
    weights = np.array([-1, 9, 21, -2]) / 27  # Catmull and Rom's, two thirds of the way
    between = np.tensordot(weights, suv[1:5], (0, 0))
    between = np.clip(between, suv[2:4].min(axis=0), suv[2:4].max(axis=0))  # no overshoot
    np.testing.assert_allclose(view.suv[::-1][4], between.max(axis=0), rtol=1e-5)


@pytest.mark.parametrize("slices", [2, 3, 10, 200, 283, 284, 326, 661])
def test_heights_are_the_challenges(slices):
    assert len(row_taps(slices, 3.0).index) == -(-3 * (slices - 1) // 2) + 1 == 3 * slices // 2


def test_326_slices_make_489_rows():
    assert len(row_taps(326, 3.0).index) == 489


@pytest.mark.parametrize("inputs", [60, 199, 200, 400, 401, 512, 900])
@pytest.mark.parametrize("spacing", [0.9, 2.036, 2.73, 4.07, 5.5])
def test_columns_are_centred_and_weights_sum_to_one(inputs, spacing):
    across = column_taps(inputs, spacing)
    total = across.weight.sum(axis=1)
    assert across.index.shape[0] == COLUMNS
    assert np.allclose(total[total > 0], 1)
    middle = (across.index * across.weight).sum(axis=1)[199:201].mean()
    assert middle == pytest.approx((inputs - 1) / 2, abs=0.51)
    covered = int((total > 0).sum())
    assert covered == pytest.approx(min(COLUMNS, inputs * spacing / 2.036), abs=2)


def test_fine_voxels_are_not_skipped():
    across = column_taps(3600, 0.25)
    used = np.zeros(3600)
    np.add.at(used, across.index, across.weight)
    inside = used[200:-200]
    assert (inside > 0).all()
    assert inside.std() / inside.mean() < 0.15


def test_a_narrow_volume_is_padded_with_white():
    view = projected(body(), LPS)
    assert view.pixels.shape == (105, 400)
    assert (view.pixels[:, :130] == 255).all()
    assert (view.pixels[:, -130:] == 255).all()
    assert not view.body_outside


def test_a_body_wider_than_the_image_is_cropped_with_a_warning(tmp_path):
    suv = np.full((30, 10, 220), 1, np.float32)
    path = save(tmp_path / "wide.nii.gz", suv, RAS)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    said = json.loads((only(tmp_path / "out") / "report.json").read_text())
    assert any("outside the 400 columns" in line for line in said["warnings"])


def test_the_grey_scale_is_fixed():
    suv = np.array([[0, 0.5, 3.5, 7, 30]], np.float32)
    assert grey(suv, 7).tolist() == [[255, 237, 127, 0, 0]]
    assert grey(suv, 14).tolist() == [[255, 246, 191, 127, 0]]


def test_suv_black_is_an_option(tmp_path):
    path = save(tmp_path / "n.nii", body(), RAS)
    for black, name in (("7", "a"), ("14", "b")):
        out = str(tmp_path / name)
        assert main([str(path), "--out", out, "--suv-black", black]) == 0
    seven, fourteen = (
        np.asarray(Image.open(only(tmp_path / name) / "mip.png")).astype(int) for name in "ab"
    )
    assert np.abs((255 - seven) / 2 - (255 - fourteen))[seven > 0].max() <= 1


def test_small_angles_are_taken_and_large_ones_refused():
    def at(degrees):
        a = np.radians(degrees)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        return upright(Volume(body(), turn @ LPS))

    assert at(3).degrees == pytest.approx(3)
    with pytest.raises(ScanError, match="7 degrees off"):
        at(7)
    with pytest.raises(ScanError, match="45 degrees off"):
        at(45)


def test_a_sheared_affine_is_refused():
    sheared = LPS.copy()
    sheared[1, 0] = 0.5
    with pytest.raises(ScanError, match="gantry tilt or a sheared affine"):
        upright(Volume(body(), sheared))


def test_a_singular_affine_is_refused():
    with pytest.raises(ScanError, match="singular"):
        upright(Volume(body(), np.zeros((4, 4))))


def refused(path, tmp_path, capsys, *options):
    out = tmp_path / "out"
    assert main([str(path), "--out", str(out), *options]) == 1
    assert list(out.iterdir()) == []
    return capsys.readouterr().err


def test_a_nifti_in_becquerel_asks_for_the_factor(tmp_path, capsys):
    path = save(tmp_path / "bq.nii.gz", body() * 5000, RAS)
    assert "give --suv-factor" in refused(path, tmp_path, capsys)
    assert main([str(path), "--out", str(tmp_path / "out"), "--suv-factor", "2e-4"]) == 0
    said = json.loads((only(tmp_path / "out") / "report.json").read_text())
    assert said["mip"]["suv_max"] == pytest.approx(max(PEAKS), rel=1e-5)


def test_niftis_that_are_refused(tmp_path, capsys):
    four = save(tmp_path / "four.nii", np.stack([body()] * 2, axis=3), RAS)
    assert "it has 4 dimensions" in refused(four, tmp_path, capsys)
    nan = body()
    nan[3, 3, 3] = np.nan
    assert "NaN" in refused(save(tmp_path / "nan.nii", nan, RAS), tmp_path, capsys)
    nowhere = save(tmp_path / "nowhere.nii", body(), RAS, known=False)
    assert "both codes are 0" in refused(nowhere, tmp_path, capsys)
    empty = save(tmp_path / "empty.nii", np.zeros((9, 9, 9), np.float32), RAS)
    assert "cannot be SUV" in refused(empty, tmp_path, capsys)
    cut = save(tmp_path / "cut.nii", body(), RAS)
    cut.write_bytes(cut.read_bytes()[:-1000])
    assert "damaged, truncated" in refused(cut, tmp_path, capsys)
    packed = save(tmp_path / "packed.nii.gz", body(), RAS)
    packed.write_bytes(packed.read_bytes()[:-100])
    assert "damaged, truncated" in refused(packed, tmp_path, capsys)
    text = tmp_path / "text.nii"
    text.write_text("hello")
    assert "NIfTI" in refused(text, tmp_path, capsys)
    huge = nibabel.Nifti1Image(np.zeros((9, 9, 9), np.int16), RAS)
    huge.header.set_data_shape((30_000, 30_000, 30_000))
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(huge.header.binaryblock + bytes(1000)))
    assert "that of no PET" in refused(bomb, tmp_path, capsys)


def test_a_nifti_of_one_time_frame_is_a_volume(tmp_path):
    path = save(tmp_path / "one.nii", body()[..., None], RAS)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0


def test_a_nifti_in_metres(tmp_path):
    image = nibabel.Nifti1Image(body(), np.diag([0.001, 0.001, 0.001, 1]) @ RAS)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "m.nii")
    assert main([str(tmp_path / "m.nii"), "--out", str(tmp_path / "out")]) == 0
    said = json.loads((only(tmp_path / "out") / "report.json").read_text())
    assert said["mip"]["shape"] == [105, 400]


def test_lesions_are_measured():
    frame = upright(Volume(body(), LPS))
    view = project(frame, 7)
    mask = np.zeros(view.suv.shape, np.uint8)
    places = []
    for slice_, _, column in LESIONS:
        row = round((69 - slice_) * 1.5)
        at = round(199.5 + (column - 29.5) * 4 / 2.036)
        mask[row - 2 : row + 3, at - 2 : at + 3] = 255
        places.append(np.array([row * 2.0, at * 2.036]))
    found = measure(mask, view, frame, [f"uid{k}" for k in range(70)])
    assert len(found) == 2
    by_peak = sorted(found, key=lambda lesion: -lesion.suv_max)
    for lesion, place, voxel, peak in zip(by_peak, places, LESIONS, PEAKS, strict=True):
        assert lesion.area_mm2 == pytest.approx(25 * 2 * 2.036)
        assert lesion.suv_max == peak
        assert lesion.voxel == voxel
        assert lesion.uid == f"uid{voxel[0]}"
        assert lesion.centroid_mm == pytest.approx(place)
        assert 0 < lesion.suv_mean <= peak
    distance = np.linalg.norm(places[0] - places[1])
    assert largest_distance(found) == pytest.approx(distance)


@pytest.mark.parametrize("size", [(0.7, 4, 0.9), (5, 4, 5.5), (3, 2.036, 2.036)])
def test_the_hottest_voxel_is_found_at_any_voxel_size(size):
    random = np.random.default_rng(0)
    shape = tuple(round(span / mm) for span, mm in zip((120, 80, 150), size, strict=True))
    matrix = np.diag([*size, 1.0])[[2, 1, 0, 3]]
    for _ in range(5):
        voxel = tuple(int(random.integers(n // 4, 3 * n // 4)) for n in shape)
        suv = np.full(shape, 0.5, np.float32)
        suv[voxel] = 40
        frame = upright(Volume(suv, matrix))
        view = project(frame, 7)
        mask = view.suv > view.suv.max() / 3
        (lesion,) = measure(mask, view, frame)
        assert lesion.voxel == voxel
        assert lesion.suv_max == 40


def test_the_largest_distance_of_fewer_than_two_lesions_is_zero():
    assert largest_distance([]) == 0.0


def test_a_mask_beside_the_volume_is_measured_all_the_same():
    frame = upright(Volume(body(), LPS))
    view = project(frame, 7)
    mask = np.zeros(view.suv.shape, np.uint8)
    mask[3, 3] = 255
    (lesion,) = measure(mask, view, frame)
    assert lesion.suv_max == 0
    assert lesion.uid is None
