"""What the scorer reads, and what it refuses or names instead."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import scorer
from benchmarks.scoring.cases import control_names, find_cases
from benchmarks.scoring.selection import in_fold, named_in
from tests.conftest import write_artifact
from tests.support.fake_server import LESION, fake_server, perfect
from tests.support.serving import serving
from tumour_segmenter import contract
from tumour_segmenter.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
GREY = np.full((30, 20), 200, np.uint8)
GREY[5:9, 5:10] = 10
POINTS = {"sensitive": 0.0, "specific": 0.99}  # the lesion's probability is 0.96
TRUTH = np.where(GREY < LESION, np.uint8(255), np.uint8(0))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folders of the challenge with patient_000 and control_000."""
    folder = tmp_path / "data"
    for kind in ("patients/imgs", "patients/labels", "controls/imgs"):
        (folder / kind).mkdir(parents=True)
    add_patient(folder)
    Image.fromarray(np.full_like(GREY, 200)).save(folder / "controls/imgs/control_000.png")
    return folder


def add_patient(
    data: Path, image: str = "patient_000.png", label: str = "segmentation_000.png"
) -> None:
    for path, pixels in {f"imgs/{image}": GREY, f"labels/{label}": TRUTH}.items():
        Image.fromarray(pixels).save(data / "patients" / path, "PNG")


def score(url: str, data: Path, *more: object) -> int:
    return scorer.main(["--url", url, "--data", str(data), *map(str, more)])


def test_images_and_labels_pair_whatever_their_names(data: Path) -> None:
    pairs = {
        "patient_003.PNG": "segmentation_003.png",
        "patient_004.png": "segmentation_004.Png",
        "patient_inpatient_07.png": "segmentation_inpatient_07.png",
        "patient_5.png": "patient_5.png",
        "Müller scan.png": "Müller scan.png",
    }
    for image, label in pairs.items():
        add_patient(data, image, label)
    Image.fromarray(GREY).save(data / "controls/imgs/healthy one.PNG", "PNG")
    cases, notes = find_cases(data, controls=True)
    found = {case.image.name: case.label and case.label.name for case in cases}
    controls = {"control_000.png": None, "healthy one.PNG": None}
    assert found == pairs | {"patient_000.png": "segmentation_000.png"} | controls
    assert notes == []


def test_what_is_not_taken_is_counted_and_named(data: Path, capsys) -> None:
    for name in ("patients/imgs/._patient_000.png", "patients/labels/._segmentation_000.png"):
        (data / name).write_bytes(b"AppleDouble")
    (data / "patients/imgs/notes.txt").write_text("")
    (data / "patients/imgs/more").mkdir()
    Image.fromarray(GREY).save(data / "patients/imgs/overview.png")
    (data / "controls/imgs/control_001.jpg").write_bytes(b"")
    Image.fromarray(TRUTH).save(data / "patients/labels/segmentation_009.png")
    with fake_server(perfect) as url:
        assert score(url, data, "--controls", "--only", "patient_000") == 0
    printed = capsys.readouterr().out
    assert "scored        1 of 1 patient in" in printed
    assert re.search(r"ignored .*labels without an image.*segmentation_009.png", printed)
    for name in (
        "._patient_000.png",
        "._segmentation_000.png",
        "notes.txt",
        "more",
        "overview.png",
    ):
        assert name in printed
    assert "control_001.jpg" in printed


def test_a_missing_label_or_a_name_twice_is_refused(data: Path) -> None:
    add_patient(data, "patient_000.PNG")
    with pytest.raises(UsageError, match="the same name twice: patient_000"):
        find_cases(data)
    (data / "patients/imgs/patient_000.PNG").rename(data / "patients/imgs/patient_1.png")
    with pytest.raises(UsageError, match=r"patient_1.png has no label .*segmentation_1.png"):
        find_cases(data)


def test_another_folder_than_the_data_is_refused_with_what_to_give(data: Path) -> None:
    for folder in (data / "patients", data / "nowhere", data / "patients/imgs/patient_000.png"):
        with pytest.raises(UsageError, match="--data is the folder that holds patients/imgs"):
            find_cases(folder)


def test_a_16_bit_image_is_the_same_picture(data: Path, capsys) -> None:
    """The server gets the pixels that it would read from the file itself."""
    wide = (GREY.astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(wide).save(data / "patients/imgs/patient_000.png")
    with fake_server(perfect) as url:
        assert score(url, data) == 0
    assert "mean Dice     1.0000" in capsys.readouterr().out


def test_an_image_that_is_too_large_for_the_server_is_a_fault_of_that_one(data, capsys) -> None:
    large = np.full((2001, 2000), 200, np.uint8)
    Image.fromarray(large).save(data / "patients/imgs/patient_1.png")
    label = np.zeros_like(large)
    label[:9] = 255
    Image.fromarray(label).save(data / "patients/labels/segmentation_1.png")
    assert large.size > contract.MAX_PIXELS
    refusal = b'{"error": {"code": "image_too_large"}}'
    with fake_server(lambda image: perfect(image) if len(image) < 99 else refusal) as url:
        assert score(url, data) == 1
    assert "over 2 patients" in capsys.readouterr().out


@pytest.mark.parametrize("white", [0, 255], ids=["black below", "white below"])
def test_a_label_on_a_transparent_ground_is_read_by_what_can_be_seen(data, white, capsys) -> None:
    rgba = np.dstack([np.maximum(TRUTH, white)] * 3 + [TRUTH])
    Image.fromarray(rgba, "RGBA").save(data / "patients/labels/segmentation_000.png")
    with fake_server(perfect) as url:
        assert score(url, data) == 0
    assert "mean Dice     1.0000" in capsys.readouterr().out


def test_a_label_that_may_be_inverted_is_refused(data: Path, capsys) -> None:
    Image.fromarray(255 - TRUTH).save(data / "patients/labels/segmentation_000.png")
    with fake_server(perfect) as url:
        assert score(url, data) == 2
    printed = capsys.readouterr().err
    assert "segmentation_000.png" in printed
    assert "inverted" in printed


def test_saved_masks_are_read_by_what_can_be_seen_and_may_cover_all(data, tmp_path, capsys) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    rgba = np.dstack([np.full_like(TRUTH, 255)] * 3 + [TRUTH])
    (masks / "._patient_000.png").write_bytes(b"AppleDouble")
    Image.fromarray(rgba, "RGBA").save(masks / "patient_000.PNG", "PNG")
    assert scorer.main(["--masks", str(masks), "--data", str(data)]) == 0
    assert "mean Dice     1.0000" in capsys.readouterr().out
    (masks / "patient_000.PNG").unlink()
    Image.new("L", TRUTH.shape[::-1], 255).save(masks / "patient_000.png")
    assert scorer.main(["--masks", str(masks), "--data", str(data)]) == 0
    Image.new("L", (3, 3)).save(masks / "patient_000.png")
    assert scorer.main(["--masks", str(masks), "--data", str(data)]) == 1
    (masks / "patient_000.png").unlink()  # another folder than the one of the masks
    assert scorer.main(["--masks", str(masks), "--data", str(data)]) == 2
    assert "holds no mask of these cases, such as patient_000.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("patient_1b", {"patient_1b"}),
        ("patient_1 patient_1b", {"patient_1", "patient_1b"}),
        ("patients/imgs/patient_1.png\n", {"patient_1"}),
        ("case,dice,fault\npatient_1,0.5,no mask patient_1b.png\n", {"patient_1"}),
        ('{"patient_1b": 0, "x": ["control_0"]}', {"patient_1b", "control_0"}),
        ("\ufeffpatient_1\r\n", {"patient_1"}),
        ("Ann Smith\n", {"Ann Smith"}),
    ],
)
def test_only_takes_whole_names(data: Path, tmp_path: Path, content: str, expected: set) -> None:
    for name in ("1", "1b"):
        add_patient(data, f"patient_{name}.png", f"segmentation_{name}.png")
    add_patient(data, "Ann Smith.png", "Ann Smith.png")
    Image.fromarray(GREY).save(data / "controls/imgs/control_0.png")
    cases, _ = find_cases(data, controls=True)
    (tmp_path / "only").write_text(content, encoding="utf-8")
    assert named_in(str(tmp_path / "only"), cases) == expected
    assert named_in("patient_1b", cases) == {"patient_1b"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("patient_1 patient_000", "such as patient_1"), ("nobody", "names no patient")],
)
def test_only_refuses_who_is_not_there(data, tmp_path, content, complaint) -> None:
    (tmp_path / "only").write_text(content)
    cases, _ = find_cases(data)
    with pytest.raises(UsageError, match=complaint):
        named_in(str(tmp_path / "only"), cases)
    with pytest.raises(UsageError, match="neither a file nor a case of the data"):
        named_in("patient_1", cases)


@pytest.mark.parametrize("form", ["folds.json", "out_of_fold.json"])
def test_a_fold_whose_patients_are_not_all_there_is_refused(data, tmp_path, form) -> None:
    folds = tmp_path / form
    names = {"patient_000": 0, "patient_001": 0, "patient_002": 1, "control_9": 0}
    groups = [{name: {"fold": names[name]} for name in names if name[0] == first} for first in "pc"]
    own = {"data": "x", "folds": names}
    shipped = dict(zip(("patients", "controls"), groups, strict=True))
    folds.write_text(json.dumps(own if form == "folds.json" else shipped))

    def chosen(with_controls: bool) -> set[str]:
        cases, _ = find_cases(data, with_controls)
        return in_fold(folds, 0, cases, control_names(data))

    control = data / "controls/imgs/control_000.png"
    control.rename(control.with_name("control_9.png"))
    words = "1 of those chosen are not in the data, such as patient_001"
    with pytest.raises(UsageError, match=words):
        chosen(False)
    add_patient(data, "patient_001.png", "segmentation_001.png")
    assert chosen(False) == {"patient_000", "patient_001"}
    assert chosen(True) == {"patient_000", "patient_001", "control_9"}
    with pytest.raises(UsageError, match=r"no patient into fold 7; it has \[0, 1\]"):
        in_fold(folds, 7, find_cases(data)[0], control_names(data))
    control.with_name("control_9.png").rename(control)
    with pytest.raises(UsageError, match="such as control_9"):
        chosen(True)
    assert chosen(False) == {"patient_000", "patient_001"}


@pytest.mark.parametrize("path", ["/predict", "/predict/", "/predict?x=1", "/somewhere"])
def test_an_address_that_is_not_the_base_url_stops_at_once(path: str, data, capsys) -> None:
    asked = []
    with fake_server(lambda image: asked.append(0) or perfect(image)) as url:
        assert score(url + path, data) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert "base URL" in printed
        assert path == "/somewhere" or f"here {url};" in printed
    assert asked == []


def test_what_is_no_address_is_refused_in_one_line(data: Path, capsys) -> None:
    assert score("", data) == 2
    assert capsys.readouterr().err == "scorer: '' is no address such as http://127.0.0.1:8000\n"


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf", "x"])
@pytest.mark.parametrize("option", ["--timeout", "--best"])
def test_numbers_that_mean_nothing_are_refused(option: str, number: str, data: Path) -> None:
    with pytest.raises(SystemExit) as exit:
        score("http://127.0.0.1:1", data, option, number)
    assert exit.value.code == 2


def test_an_api_key_is_sent_and_asked_for(data: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("API_KEY", raising=False)
    with fake_server(perfect, key="schlüssel") as url:
        assert score(url, data) == 2
        assert "wants an API key (401): set the environment variable" in capsys.readouterr().err
        monkeypatch.setenv("API_KEY", "other")
        assert score(url, data) == 2
        assert "does not take the API key" in capsys.readouterr().err
        monkeypatch.setenv("API_KEY", "schlüssel")
        assert score(url, data) == 0


@pytest.mark.slow
def test_our_own_server_says_what_its_model_was_trained_on(
    data, tmp_path, monkeypatch, capsys
) -> None:
    """Server and scorer give an image the same hash; the key comes from the environment of both."""
    pixels = contract.decode_png((data / "patients/imgs/patient_000.png").read_bytes())
    trained_on = json.dumps([contract.image_hash(pixels), "another"])
    points = json.dumps({name: {"minimum_probability": p} for name, p in POINTS.items()})
    metadata = {"name": "mine", "version": "2.0", "trained_on": trained_on}
    metadata["operating_points"] = points
    model = write_artifact(tmp_path / "mine.onnx", metadata=metadata, minimum=True)
    monkeypatch.setenv("API_KEY", "s3cret")
    with serving(model, WORKERS="1") as server:
        assert score(server.url, data, "--controls", "--operating-point", "specific") == 0
        assert "mean Dice     0.0000" in capsys.readouterr().out
        assert score(server.url, data, "--controls", "--froc") == 0
        curve = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
        assert ["sensitive", "1.0000", "100.0%"] in curve
        assert ["specific", "0.0000", "0.0%"] in curve
        assert score(server.url, data, "--controls") == 0
    printed = capsys.readouterr().out
    assert "model         mine 2.0, SHA-256 " in printed
    (mean,) = (line for line in printed.splitlines() if line.startswith("mean Dice     1.0000"))
    assert "1 of 1 was in its training data" in mean
    assert "empty masks   100.0%  of 1 control: specificity\n" in printed


def test_no_input_is_written_over(data: Path, capsys) -> None:
    label = data / "patients/labels/segmentation_000.png"
    before = label.read_bytes()
    with fake_server(perfect) as url:
        assert score(url, data, "--per-image", label) == 2
        assert "would be written over" in capsys.readouterr().err
        only = data.parent / "only.csv"
        only.write_text("patient_000\n")
        assert score(url, data, "--only", only, "--per-image", only) == 2
        assert only.read_text() == "patient_000\n"
        same = data.parent / "same.txt"
        assert score(url, data, "--per-image", same, "--gallery", same) == 2
    masks = ["--masks", str(label.parent), "--data", str(data)]
    assert scorer.main([*masks, "--gallery", str(label)]) == 2
    assert label.read_bytes() == before


PROGRAMS = ["scorer", "latency", "chaos", "soak", "scan", "scaling", "peers"]


@pytest.mark.parametrize(
    ("program", "missing"),
    [(program, "numpy") for program in PROGRAMS] + [("scorer", "tqdm"), ("scorer", "matplotlib")],
)
def test_another_environment_is_told_what_is_missing(program: str, missing: str) -> None:
    """As with .venv/bin/python, which serves and has no matplotlib."""
    hide = f"""if True:
        import runpy, sys
        sys.modules[{missing!r}] = None
        sys.argv = [{program!r}, "--help"]
        runpy.run_path("benchmarks/{program}.py", run_name="__main__")"""
    run = subprocess.run([sys.executable, "-c", hide], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert run.stderr.count("\n") == 1
    assert f": {missing}; " in run.stderr
    assert "requirements-benchmarks.txt" in run.stderr or "`make bench-env`" in run.stderr
