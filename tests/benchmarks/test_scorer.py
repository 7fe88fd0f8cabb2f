"""The scorer against small servers in this process, over phantoms drawn here."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import scorer
from benchmarks.running.statistics import interval
from benchmarks.scoring import score as scoring
from benchmarks.scoring.cases import find_cases
from tests.support.fake_server import LESION, fake_server, perfect
from tumour_segmenter import contract

ROOT = Path(__file__).resolve().parents[2]


def png_answer(mask: np.ndarray) -> bytes:
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "PNG")
    return json.dumps({"img": base64.b64encode(png.getvalue()).decode()}).encode()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three patients and two controls in the challenge's layout, RGBA as theirs."""
    folder = tmp_path / "data"
    for kind in ("patients/imgs", "patients/labels", "controls/imgs"):
        (folder / kind).mkdir(parents=True)

    def save(pixels: np.ndarray, path: Path) -> None:
        Image.fromarray(pixels).convert("RGBA").save(path)

    for number in range(3):
        grey = np.full((30 + number, 20), 200, np.uint8)
        truth = np.zeros_like(grey)
        truth[5 : 10 + number, 5:10] = 255
        save(np.where(truth > 0, 10, grey), folder / f"patients/imgs/patient_00{number}.png")
        save(truth, folder / f"patients/labels/segmentation_00{number}.png")
    for number in range(2):
        save(np.full((30, 20), 200, np.uint8), folder / f"controls/imgs/control_00{number}.png")
    return folder


def score(url: str, data: Path, *more: object) -> int:
    return scorer.main(["--url", url, "--data", str(data), *map(str, more)])


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_perfect_server_scores_one(data: Path, tmp_path: Path, capsys) -> None:
    table = tmp_path / "new" / "scores.csv"
    with fake_server(perfect) as url:
        assert score(url, data, "--controls", "--best", "0.9", "--per-image", table) == 0
    printed, progress = capsys.readouterr()
    assert progress == ""  # without a terminal a line every half minute, not one an image
    assert "mean Dice     1.0000  over 3 patients" in printed
    assert "scaled score  1.0000" in printed
    assert "empty masks   100.0%  of 2 controls" in printed
    assert [(row["case"], row["dice"]) for row in rows(table)[:3]] == [
        (f"patient_00{number}", "1.000000") for number in range(3)
    ]
    assert [row["group"] for row in rows(table)] == ["patient"] * 3 + ["control"] * 2
    assert not list(table.parent.glob("*.part"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: png_answer(np.full_like(image, 128)),
        lambda image: png_answer(np.zeros_like(image[..., 0])),
        lambda image: png_answer(np.zeros_like(image[1:])),
        lambda image: png_answer(np.where([True, False, False], 255, image * 0).astype(np.uint8)),
        lambda image: b'{"img": "bm90IGEgUE5H"}',
        lambda image: b'{"image": ""}',
        lambda image: b"[]",
        lambda image: b"not JSON",
    ],
    ids=["grey values", "one channel", "shape", "channels", "no PNG", "no img", "list", "no JSON"],
)
def test_a_malformed_answer_scores_zero_and_exits_1(spoil, data: Path, capsys) -> None:
    with fake_server(spoil) as url:
        assert score(url, data) == 1
    printed = capsys.readouterr().out
    assert "mean Dice     0.0000" in printed
    assert "faults        3" in printed
    assert "malformed: " in printed


def test_an_error_status_is_shown(data: Path, capsys) -> None:
    with fake_server(lambda image: b'{"error": {"code": "busy"}}', status=503) as url:
        assert score(url, data) == 1
    assert 'malformed: the server answered 503: {"error": {"code": "busy"}}' in (
        capsys.readouterr().out
    )


def test_a_server_that_dies_costs_the_rest_but_no_traceback(data: Path) -> None:
    cases, _ = find_cases(data)
    with fake_server(perfect) as url:
        source = scoring.ServerSource(url, 1)
        assert scoring.score(cases[0], source).fault == ""
    assert scoring.score(cases[1], source).fault.startswith("no answer: Connection")


def test_a_late_answer_scores_zero_and_exits_1(data: Path, capsys) -> None:
    def slow(image: np.ndarray) -> bytes:
        time.sleep(0.4 if image.shape[0] == 31 else 0)
        return perfect(image)

    with fake_server(slow) as url:
        assert score(url, data, "--timeout", 0.2) == 1
    printed = capsys.readouterr().out
    assert "patient_001: late: no answer within 0.2 s" in printed
    assert "faults        1" in printed


def test_wrong_usage_is_one_line_and_exit_2(data: Path, tmp_path: Path, capsys) -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    (data / "patients/labels/segmentation_001.png").rename(tmp_path / "gone.png")
    only = tmp_path / "only.txt"
    only.write_text("patient_007\n")
    with fake_server(perfect) as url:
        assert score(url, data) == 2
        assert "no label" in capsys.readouterr().err
        (tmp_path / "gone.png").rename(data / "patients/labels/segmentation_001.png")
        for complaint, arguments in {
            "no server answers at": (nobody, data),
            "is no address": ("ftp://127.0.0.1", data),
            "--data is the folder that holds": (url, tmp_path),
            "patient_007": (url, data, "--only", only),
            "cannot read": (url, data, "--only", tmp_path / "none"),
            "cannot write": (url, data, "--per-image", data),
        }.items():
            assert score(*arguments) == 2
            printed = capsys.readouterr().err
            assert printed.count("\n") == 1, printed
            assert complaint in printed
    full = ["--url", nobody, "--data", "x"]
    for arguments in (full[:2], full[2:], [*full, "--fold", "1"], [*full, "--plot", "x"]):
        with pytest.raises(SystemExit) as exit:
            scorer.main(arguments)
        assert exit.value.code == 2


def test_a_broken_label_ends_the_run_but_keeps_what_was_scored(data, tmp_path, capsys) -> None:
    Image.new("L", (5, 5)).save(data / "patients/labels/segmentation_002.png")
    with fake_server(perfect) as url:
        assert score(url, data, "--per-image", tmp_path / "s.csv") == 2
    assert "segmentation_002.png has 5×5 pixels, its image 20×32" in capsys.readouterr().err
    assert len(rows(tmp_path / "s.csv")) == 2


def test_fold_and_list_choose_patients(data: Path, tmp_path: Path, capsys) -> None:
    folds = tmp_path / "folds.json"
    dealt = {
        "patient_000": 0,
        "patient_001": 1,
        "patient_002": 0,
        "control_000": 1,
        "control_001": 0,
    }
    groups = [{n: {"fold": f} for n, f in dealt.items() if n.startswith(g)} for g in "pc"]
    folds.write_text(json.dumps(dict(zip(("patients", "controls"), groups, strict=True))))
    only = tmp_path / "only.csv"
    only.write_text("case,dice,fault\npatient_001,0.5,no mask patient_002.png\n")
    table = tmp_path / "scores.csv"
    with fake_server(perfect) as url:
        assert score(url, data, "--folds", folds, "--fold", 0, "--per-image", table) == 0
        assert [row["case"] for row in rows(table)] == ["patient_000", "patient_002"]
        in_fold = ("--folds", folds, "--fold", 0, "--controls", "--per-image", table)
        assert score(url, data, *in_fold) == 0
        assert [row["case"] for row in rows(table)] == ["patient_000", "patient_002", "control_001"]
        assert score(url, data, "--only", only, "--controls", "--per-image", table) == 0
        assert [row["case"] for row in rows(table)] == ["patient_001", "control_000", "control_001"]
        assert score(url, data, *in_fold, "--only", only) == 2  # of the other fold
        assert "leave no patient" in capsys.readouterr().err
        assert score(url, data, "--folds", folds, "--fold", 7) == 2
        assert "no patient into fold 7" in capsys.readouterr().err


def test_saved_masks_are_scored_without_a_server(data: Path, tmp_path: Path, capsys) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    labels = data / "patients" / "labels"
    Image.open(labels / "segmentation_000.png").convert("1").save(masks / "patient_000.png")
    Image.open(labels / "segmentation_001.png").convert("RGB").save(masks / "segmentation_001.png")
    assert scorer.main(["--masks", str(masks), "--data", str(data)]) == 1
    printed = capsys.readouterr().out
    assert "mean Dice     0.6667" in printed
    assert "patient_002: no answer: no mask" in printed
    Image.open(labels / "segmentation_002.png").convert("L").save(masks / "patient_002.png")
    assert scorer.main(["--masks", str(masks), "--data", str(data)]) == 0
    assert scorer.main(["--masks", str(tmp_path / "none"), "--data", str(data)]) == 2


def test_the_gallery_is_one_page_worst_first(data: Path, tmp_path: Path) -> None:
    def half(image: np.ndarray) -> bytes:
        mask = np.where(image[..., 0] < LESION, 255, 0).astype(np.uint8)
        mask[7:] = 0 if image.shape[0] == 32 else mask[7:]
        return json.dumps({"img": contract.encode(mask)}).encode()

    page = tmp_path / "gallery.html"
    with fake_server(half) as url:
        assert score(url, data, "--gallery", page) == 0
    text = page.read_text()
    assert text.index("patient_002") < text.index("patient_000")
    assert "10 px true positive, 0 false positive, 25 false negative" in text
    assert "3 cases, mean Dice of patients 0.8148" in text
    assert "://" not in text
    assert text.count("data:image/png;base64,") == 6


def test_it_is_reported_what_is_lost(data: Path, tmp_path: Path, capsys) -> None:
    table = tmp_path / "scores.csv"
    with fake_server(lambda image: png_answer(np.zeros_like(image))) as url:
        assert score(url, data, "--per-image", table) == 0
    told = capsys.readouterr().out
    assert (
        "1 - Dice      missed lesions 1.0000, false-positive lesions 0.0000, boundary error 0.0000"
        in told
    )
    assert {row["lost_to_missed"] for row in rows(table)} == {"1.000000"}


MODEL = {
    "name": "tumour-segmenter",
    "version": "1.0.0",
    "sha256": "0123456789abcdef0123456789abcdef",
}
ABOUT = {"model": MODEL, "operating_points": {"sensitive": {}, "balanced": {}}}


def hashes(folder: Path, count: int) -> list[str]:
    """Of the first `count` images, as a server reports what its model was trained on."""
    images = sorted(folder.glob("*.png"))[:count]
    return [contract.image_hash(contract.decode_png(path.read_bytes())) for path in images]


def test_the_mean_says_which_model_it_is_of_and_that_it_knew_the_images(
    data: Path, tmp_path: Path, capsys
) -> None:
    gallery = tmp_path / "gallery.html"
    for seen, words in {
        2: "; 2 of 3 images were in its training data: not a figure for unseen patients",
        1: "; 1 of 3 was in its training data: not a figure for unseen patients",
        0: "",
    }.items():
        known = hashes(data / "patients/imgs", seen) + hashes(data / "controls/imgs", 0) + ["other"]
        pages = {"/api": ABOUT, "/api/trained_on": {"hashes": known}}
        with fake_server(perfect, pages=pages) as url:
            assert score(url, data, "--controls", "--gallery", gallery) == 0
        assert f"<p>{words[2:]}</p>" in gallery.read_text()
        printed = capsys.readouterr().out.splitlines()
        assert "model         tumour-segmenter 1.0.0, SHA-256 0123456789abcdef" in printed
        (mean,) = (line for line in printed if line.startswith("mean Dice"))
        assert mean.partition(" over 3 patients")[2].endswith(words)
        assert ("training data" in mean) == bool(seen)
        assert "scored        3 of 3 patients" in "\n".join(printed)
        assert "scored        2 of 2 controls" in "\n".join(printed)


def test_it_is_said_where_the_model_is_not_known(data: Path, capsys) -> None:
    with fake_server(perfect) as url:
        assert score(url, data) == 0
    printed = capsys.readouterr().out
    assert "model         unknown: the server has no /api" in printed
    assert "what it was trained on is not known" in printed


def test_an_operating_point_is_asked_for_by_name(data: Path, capsys) -> None:
    asked = []

    def answer(image: np.ndarray, request: dict) -> bytes:
        asked.append(request.get("operating_point"))
        return perfect(image)

    with fake_server(answer, pages={"/api": ABOUT}) as url:
        assert score(url, data) == 0
        assert "operating point" not in capsys.readouterr().out  # this server names no default
        assert score(url, data, "--operating-point", "sensitive") == 0
        assert "at            the operating point sensitive\n" in capsys.readouterr().out
        assert asked == [None] * 3 + ["sensitive"] * 3
        capsys.readouterr()
        assert score(url, data, "--operating-point", "senstive") == 2
        assert "the server offers: sensitive, balanced" in capsys.readouterr().err
    with fake_server(perfect) as url:
        assert score(url, data, "--operating-point", "sensitive") == 2
        assert score(url, data, "--froc") == 2


def test_the_curve_has_a_line_for_each_operating_point(data: Path, capsys) -> None:
    """One marks all lesions and a group of pixels beside, the other nothing."""

    def answer(image: np.ndarray, request: dict) -> bytes:
        mask = np.where(image[..., 0] < LESION, 255, 0).astype(np.uint8)
        mask[20:22, 15:17] = 255
        mask *= request["operating_point"] == "sensitive"
        return json.dumps({"img": contract.encode(mask)}).encode()

    with fake_server(answer, pages={"/api": ABOUT}) as url:
        assert score(url, data, "--controls", "--froc") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (sensitive,) = (line for line in lines if line[0] == "sensitive")
    assert sensitive[2:] == ["100.0%", "1.00", "1.00", "0.0%"]
    assert ["balanced", "0.0000", "0.0%", "0.00", "0.00", "100.0%"] in lines


def test_difficult_controls_are_named(data: Path, capsys) -> None:
    controls = data / "controls/imgs"
    (controls / "control_000.png").rename(controls / "control_050.png")
    pixels = np.full((30, 20), 200, np.uint8)
    pixels[3:5, 3:6] = 10
    Image.fromarray(pixels).save(controls / "control_399.png")
    with fake_server(perfect) as url:
        assert score(url, data, "--controls") == 0
    printed = capsys.readouterr().out
    assert "control_050 (cold: neck): empty" in printed
    assert "control_399 (chemotherapy: bones): 6 px marked" in printed
    assert "empty masks   66.7%  of 3 controls" in printed


def test_ctrl_c_leaves_what_was_scored(data: Path, tmp_path: Path) -> None:
    table, asked = tmp_path / "scores.csv", threading.Event()

    def third_hangs(image: np.ndarray) -> bytes:
        if image.shape[0] == 32:
            asked.set()
            time.sleep(1)
        return perfect(image)

    with fake_server(third_hangs) as url:
        command = [sys.executable, str(ROOT / "benchmarks" / "scorer.py"), "--url", url]
        command += ["--data", str(data), "--per-image", str(table)]
        run = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # tests that run in the background ignore Ctrl-C, and children would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert asked.wait(30)
        os.kill(run.pid, signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert run.returncode == 130, err
    assert "interrupted after 2 of 3" in err
    assert "Traceback" not in err
    assert "over 2 patients" in out
    assert len(rows(table)) == 2


def test_output_that_nobody_reads_loses_no_file(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    reader, writer = os.pipe()
    os.close(reader)
    with fake_server(perfect) as url:
        command = [sys.executable, ROOT / "benchmarks" / "scorer.py", "--url", url]
        run = subprocess.run(
            [*command, "--data", data, "--per-image", table],
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=writer,
            stderr=subprocess.PIPE,
        )
    os.close(writer)
    assert run.returncode == 0, run.stderr
    assert len(rows(table)) == 3


@pytest.mark.parametrize("start", [["-m", "benchmarks.scorer"], ["benchmarks/scorer.py"]])
def test_it_starts_both_ways(start: list[str]) -> None:
    command = [sys.executable, *start, "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert "--per-image" in run.stdout


def write_scores(path: Path, dice: list[float]) -> Path:
    lines = [f"patient_{number:03d},patient,{value}" for number, value in enumerate(dice)]
    path.write_text("case,group,dice\n" + "\n".join(lines) + "\ncontrol_000,control,1\n")
    return path


def test_compare_tells_change_from_chance(tmp_path: Path, capsys) -> None:
    spread = np.random.default_rng(0).normal(0, 0.05, 60)
    before = np.random.default_rng(1).uniform(0.3, 0.9, 60)
    a = write_scores(tmp_path / "a.csv", list(before))
    plot = tmp_path / "plot.png"
    for change, verdict in {0.05: "better", -0.05: "worse", 0.0: "no sure difference"}.items():
        b = write_scores(tmp_path / "b.csv", list(before + change + spread - spread.mean()))
        assert scorer.main(["--compare", str(a), str(b), "--plot", str(plot)]) == 0
        printed = capsys.readouterr().out
        line = printed.splitlines()[2]
        assert float(line.split()[1].rstrip(",")) == pytest.approx(change, abs=1e-4)
        assert line.endswith(verdict)
    with Image.open(plot) as drawn:
        assert drawn.width > 100
    assert interval(spread) == interval(spread)


def test_compare_refuses_what_is_no_score_file(tmp_path: Path, capsys) -> None:
    a = write_scores(tmp_path / "a.csv", [0.5])
    other = tmp_path / "b.csv"
    other.write_text("x,y\n1,2\n")
    assert scorer.main(["--compare", str(a), str(other)]) == 2
    assert "no --per-image file" in capsys.readouterr().err
