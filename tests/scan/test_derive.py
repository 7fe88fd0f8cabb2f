"""The derivation of the challenge's geometry finds what was put into synthetic images."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom", reason="requirements-scan.txt is not installed")

from scan import derive, grey
from scan.geometry import COLUMN_MM, taps
from tumour_segmenter import contract


def synthetic(black: float, count: int = 6, noise: float = 0.25) -> list[np.ndarray]:
    """Projections of a noisy slab of liver, SUV 2.25, within fainter tissue: uptake 0 to 255."""
    images = []
    for seed in range(count):
        rows = round(derive.LIVER_DEPTH / COLUMN_MM)
        volume = 0.8 + np.zeros((130, rows, 120), np.float32)
        liver = derive.noise((60, rows, 50), 6.0, (3.0, COLUMN_MM, COLUMN_MM), seed)
        volume[20:80, :, 5:55] = derive.LIVER * (1 + noise * liver)
        down = taps(np.arange(0, 129, 2 / 3), 130, 1.0)
        image = np.array(
            [
                np.tensordot(w, volume[i], (0, 0)).max(axis=0)
                for i, w in zip(down.index, down.weight, strict=True)
            ]
        )[::-1]
        padded = np.zeros((len(image), 400), np.float32)
        padded[:, 140:260] = image
        images.append(np.round(255 * np.clip(padded / black, 0, 1)).astype(np.float32))
    return images


@pytest.fixture(scope="module")
def images():
    return synthetic(7.0)


def regions(images):
    return [derive.liver_region(i, (2, COLUMN_MM), derive.SATURATED, derive.AIR) for i in images]


def test_the_black_suv_is_found_within_its_error(images):
    livers = [derive.liver_of(i, r) for i, r in zip(images, regions(images), strict=True)]
    found = derive.black_of(livers)
    assert found["black"] == pytest.approx(7.0, abs=1.5 * found["error"])
    assert 0 < found["error"] < 1.2
    assert found["fwhm_mm"] == pytest.approx(6, abs=1.1)


def test_rows_between_slices_tell_how_they_were_made(images):
    found = derive.phases(images, regions(images))
    apart = {kind: np.abs(derive.interpolated(6.0, kind) - found).max() for kind in
             ("nearest", "linear", "cubic")}  # fmt: skip
    assert min(apart, key=apart.get) == "cubic"


def test_heights_that_no_number_of_slices_makes_are_counted():
    lines = derive.heights([np.zeros((n, 4)) for n in (426, 489, 427, 488)])
    assert "3 of 4" in lines[0]


def test_the_step_of_whole_beds_is_found_among_other_heights():
    random = np.random.default_rng(0)
    whole = [int(240.3 + 37.4 * k) for k in range(10) for _ in range(8)]
    others = random.integers(250, 600, 40).tolist()
    (low, high), images = derive.bed_step(Counter(whole + others))
    assert low - 0.011 <= 37.4 <= high + 0.011
    assert high - low < 0.3
    assert images >= 80


def write(images, folder):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray((255 - image).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_derive_prints_every_step(images, tmp_path, capsys):
    write(images[:3], tmp_path / "controls" / "imgs")
    write(images[3:5], tmp_path / "patients" / "imgs")
    assert derive.main(["--data", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "columns: {400: 5}" in output
    assert "black is SUV" in output


def test_derive_without_images_is_exit_code_2(tmp_path, capsys):
    assert derive.main(["--data", str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err


def test_grey_scales_are_compared(images, tmp_path, capsys):
    train = write(images[:3], tmp_path / "train")
    own = tmp_path / "own" / "pet-1"
    own.mkdir(parents=True)
    lighter = np.round(images[3] / 1.5)  # as with 1.5 times the SUV for black
    Image.fromarray((255 - lighter).astype(np.uint8)).save(own / "mip.png")
    assert grey.main(["--train", str(train), "--own", str(tmp_path / "own")]) == 0
    assert "multiply --suv-black by 0.6" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    picture = tmp_path / "grey.png"
    command = ["--train", str(train), "--own", str(tmp_path / "own"), "--out", str(picture)]
    assert grey.main(command) == 0
    with Image.open(picture) as opened:
        assert opened.size == (700, 400)


def test_grey_scales_without_livers_are_not_compared(tmp_path, capsys):
    blank = np.full((300, 400), 255, np.uint8)
    blank[:9, :9] = 200
    for name in ("train", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mip.png").write_bytes(contract.encode_png(blank))
    command = ["--train", str(tmp_path / "train"), "--own", str(tmp_path / "own")]
    assert grey.main(command) == 1
    said = capsys.readouterr()
    assert "own: 1 image, liver found in 0" in said.out
    assert said.err == "error: no livers to compare; are these the right images?\n"


def test_grey_never_writes_over_an_image_and_needs_images(images, tmp_path, capsys):
    train = write(images[:1], tmp_path / "train")
    same = ["--train", str(train), "--own", str(train), "--out", str(train / "0.png")]
    assert grey.main(same) == 2
    (tmp_path / "empty").mkdir()
    assert grey.main(["--train", str(train), "--own", str(tmp_path / "empty")]) == 2
    assert "no mip.png" in capsys.readouterr().err
