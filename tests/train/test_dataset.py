import numpy as np
import pytest
from PIL import Image

from tests.support.folders import draw_data, save_rgba
from train import dataset
from train.dataset import Case, DataError
from tumour_segmenter.contract import decode_png, image_hash


def test_images_come_as_uptake_and_labels_as_truth(tmp_path):
    cases = dataset.load(draw_data(tmp_path, patients=2, controls=1))
    assert [case.name for case in cases] == ["patient_000", "patient_001", "control_000"]
    patient, _, control = cases
    assert patient.uptake.shape == patient.truth.shape == (128, 120)
    assert patient.truth.any()
    assert patient.uptake[patient.truth].mean() > 2 * patient.uptake.mean()
    assert control.uptake.max() > 0
    assert not control.truth.any()


def test_an_empty_folder_is_told_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="patients/imgs"):
        dataset.load(tmp_path)


def test_every_bad_file_is_named_at_once(tmp_path):
    root = draw_data(tmp_path, patients=5, controls=1)
    (root / "patients/labels/segmentation_000.png").unlink()
    save_rgba(root / "patients/labels/segmentation_001.png", np.zeros((10, 20), np.uint8))
    (root / "patients/imgs/patient_002.png").write_text("no image")
    save_rgba(root / "patients/labels/segmentation_003.png", np.full((128, 120), 7, np.uint8))
    save_rgba(root / "patients/labels/segmentation_777.png", np.zeros((128, 120), np.uint8))
    (root / "controls/imgs/control_000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError) as error:
        dataset.load(root)
    message = str(error.value)
    assert "segmentation_000.png is missing" in message
    assert "segmentation_001.png: 20×10 pixels, but patient_001.png has 120×128" in message
    assert "patient_002.png: " in message
    assert "segmentation_003.png: " in message
    assert "7" in message
    assert "segmentation_777.png: has no image" in message
    assert "control_000.png: " in message
    assert "patient_004" not in message


def _notes(root) -> list[str]:
    notes: list[str] = []
    dataset.load(root, notes.append)
    return notes


def test_endings_in_capitals_and_other_names_of_controls_are_used(tmp_path):
    root = draw_data(tmp_path, patients=2, controls=2)
    for path in (
        root / "patients/imgs/patient_001.png",
        root / "patients/labels/segmentation_001.png",
        root / "controls/imgs/control_001.png",
    ):
        path.rename(path.with_suffix(".PNG"))
    (root / "controls/imgs/control_000.png").rename(root / "controls/imgs/healthy.png")
    cases = dataset.load(root)
    names = [case.name for case in cases]
    assert names == ["patient_000", "patient_001", "control_001", "healthy"]
    assert [case.is_patient for case in cases] == [True, True, False, False]
    assert not _notes(root)


def test_what_is_ignored_is_named(tmp_path):
    root = draw_data(tmp_path, patients=2, controls=1)
    images, labels = root / "patients/imgs", root / "patients/labels"
    (images / "._patient_000.png").write_bytes(b"?")
    (images / "patient_007.jpg").write_bytes(b"?")
    (images / "more").mkdir()
    (images / "scan_1.png").write_bytes(b"?")
    (labels / "notes.txt").write_text("?")
    (labels / "mask_1.png").write_bytes(b"?")
    notes = "\n".join(_notes(root))
    ignored = ("._patient_000.png", "patient_007.jpg", "more", "notes.txt")
    for name in (*ignored, "scan_1.png: ignored", "mask_1.png: ignored"):
        assert name in notes


def test_notes_go_to_standard_error_unless_someone_takes_them(tmp_path, capsys):
    root = draw_data(tmp_path, patients=2, controls=1)
    (root / "controls/imgs/photo.jpeg").write_bytes(b"?")
    dataset.load(root)
    assert "photo.jpeg" in capsys.readouterr().err


def test_a_patient_among_the_controls_and_a_name_used_twice_are_refused(tmp_path):
    root = draw_data(tmp_path, patients=2, controls=1)
    pixels = np.full((128, 120), 255, np.uint8)
    save_rgba(root / "controls/imgs/patient_009.png", pixels)
    save_rgba(root / "controls/imgs/control_000.PNG", pixels)
    with pytest.raises(DataError) as error:
        dataset.load(root)
    assert "patient_009.png: is named as a patient" in str(error.value)
    assert "control_000: 2 images have this name" in str(error.value)


def test_labels_are_read_strictly(tmp_path):
    root = draw_data(tmp_path, patients=3, controls=0)
    labels = root / "patients/labels"
    save_rgba(labels / "segmentation_000.png", np.full((128, 120), 255, np.uint8))
    with Image.open(labels / "segmentation_001.png") as image:
        white = np.array(image)[:, :, 0] > 0
    drawn = np.zeros((128, 120, 4), np.uint8)
    drawn[white] = 255  # white on a transparent ground
    Image.fromarray(drawn).save(labels / "segmentation_001.png")
    with pytest.raises(
        DataError, match=r"segmentation_000.png: .*100 %|100% of the image"
    ) as error:
        dataset.load(root)
    assert "segmentation_001" not in str(error.value)
    save_rgba(labels / "segmentation_000.png", np.zeros((128, 120), np.uint8))
    cases = dataset.load(root)
    assert not cases[0].truth.any()
    assert (cases[1].truth == white).all()


def test_the_hash_of_a_case_is_that_of_its_image(tmp_path):
    root = draw_data(tmp_path, patients=2, controls=0)
    for case in dataset.load(root):
        path = root / f"patients/imgs/{case.name}.png"
        assert case.hash == image_hash(decode_png(path.read_bytes()))


def test_the_fingerprint_is_of_the_pixels(tmp_path):
    cases = dataset.load(draw_data(tmp_path, patients=2, controls=0))
    first = dataset.fingerprint(cases)
    assert dataset.fingerprint(dataset.load(tmp_path)) == first
    cases[1].uptake[5, 5] ^= 1
    assert dataset.fingerprint(cases) != first
    cases[1].uptake[5, 5] ^= 1
    cases[1].truth[5, 5] ^= True
    assert dataset.fingerprint(cases) != first


def _people(patients: int, controls: int) -> list[Case]:
    rng = np.random.default_rng(1)
    people = []
    for i in range(patients + controls):
        height = int(rng.choice((426, 489, 900)))
        truth = np.zeros((height, 4), bool)
        if i < patients:
            truth[: int(rng.integers(1, height))] = True
        kind = "patient" if i < patients else "control"
        people.append(Case(f"{kind}_{i:03}", np.zeros((height, 4), np.uint8), truth))
    return people


def test_folds_are_even_stratified_and_fixed_by_seed():
    people = _people(100, 50)
    folds = dataset.folds(people, seed=3)
    assert folds == dataset.folds(people, seed=3)
    assert folds != dataset.folds(people, seed=4)
    patients = [p for p in people if p.is_patient]
    areas = np.array([p.truth.sum() for p in patients])
    heights = np.array([p.truth.shape[0] for p in patients])
    fold_of = np.array([folds[p.name] for p in patients])
    for fold in range(dataset.FOLDS):
        assert (fold_of == fold).sum() == 20
        assert sum(folds[p.name] == fold for p in people if not p.is_patient) == 10
        # A fold drawn blindly would stray by 20 % as often as not.
        assert areas[fold_of == fold].mean() == pytest.approx(areas.mean(), rel=0.15)
        assert heights[fold_of == fold].mean() == pytest.approx(heights.mean(), rel=0.08)
