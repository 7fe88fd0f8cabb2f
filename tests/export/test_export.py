"""Weights become one file that does what the networks do; what does not is not written."""

import errno
import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import __main__ as export
from export import check, graph, int8
from tests.support.folders import draw_data
from tests.support.int8 import overflowing
from train import dataset, detail, weights
from train.canonical import Upright, learn_upright
from train.members import load_members
from train.network import UNet
from train.operating_point import Calibration, OperatingPoint, mask
from train.segmentation import ensemble
from tumour_segmenter.contract import dice
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import open_model

pytestmark = pytest.mark.slow


def _figures(minimum: float, factor: float, dice: float, error: float) -> dict[str, float]:
    names = ("minimum_probability", "threshold_factor", "dice", "dice_standard_error")
    return dict(zip(names, (minimum, factor, dice, error), strict=True))


POINTS = {
    "operating_point": "balanced",
    "calibration": {"slope": 20.0},
    "operating_points": {
        "sensitive": _figures(0.0, 0.5, 0.5, 0.1),
        "balanced": _figures(0.01, 1.0, 0.4, 0.2),
        "all empty": _figures(1.0, 1.0, 0.0, 0.0),
    },
    "data_fingerprint": "abc",
    "figures": {"patients": 10},
    "dice_by_fold": {"1": [0.3, 0.02, 2]},
}
POINT = OperatingPoint(0.01)


def _network(seed: int) -> UNet:
    """Untrained, but it marks what is hot: the wanted logits are in the skip connection's mean."""
    torch.manual_seed(seed)
    network = UNet().eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    uptake = torch.from_numpy(255 - phantom(448, 384)[0])[None, None] / 255
    with torch.no_grad():
        network.head.bias -= network(uptake).quantile(0.9)
    return network


def _save(path: Path, network: UNet, fold: int, trained_on: list[str]) -> Path:
    facts = {
        "fold": str(fold),
        "seed": "0",
        "data_fingerprint": "abc",
        "training_commit": f"commit-{fold}",
        "trained_on": json.dumps(trained_on),
        "settings": json.dumps({"by_slices": True}),
    }
    upright = Upright(learn_upright([dataset.Case("a", 255 - phantom(200, 160)[0], None)]))
    weights.save(path, network, facts, upright)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Weights of two networks, and operating points."""
    folder = tmp_path_factory.mktemp("export")
    for fold in (0, 1):
        _save(folder / f"weights/fold-{fold}.safetensors", _network(fold), fold, ["a", f"b{fold}"])
    members = [member.identity for member in load_members([folder / "weights"])]
    (folder / "points.json").write_text(json.dumps(POINTS | {"members": members}))
    return folder


def _export(folder: Path, *more: str, weights: str = "weights", points: str = "points.json") -> int:
    start = ["--weights", str(folder / weights), "--operating-points", str(folder / points)]
    return export.main([*start, *more])


@pytest.fixture(scope="module")
def exported(folder) -> Path:
    """An ensemble of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "IMAGES", 4)
        assert _export(folder, "--out", str(folder / "ensemble")) == 0
    return folder / "ensemble.onnx"


@pytest.fixture(scope="module")
def module(folder) -> graph.PixelsToMask:
    members = load_members([folder / "weights"])
    segmentation = ensemble([member.weights for member in members], one_view=True)
    return graph.PixelsToMask(segmentation, Calibration(20.0)).eval()


@pytest.fixture
def quick(monkeypatch, exported):
    """Skip tracing and quantising: give the file that was exported before, without its defaults,
    and check it on two phantoms."""
    model = onnx.load(exported)
    del model.graph.initializer[-2:]
    monkeypatch.setattr(check, "SIZES", ((1, 1), (300, 200)))
    monkeypatch.setattr(graph, "to_onnx", lambda _: model)
    monkeypatch.setattr(int8, "quantise", lambda *_: model)
    # It is INT8, and of other weights.
    monkeypatch.setattr(check, "MOST_FLIPPED", 1.0)
    monkeypatch.setattr(check, "MOST_LEVELS", 255)
    return model


def test_the_file_gives_the_mask_of_the_networks(exported, module):
    segmenter = open_model(exported)
    for size in ((426, 400), (300, 217)):
        pixels, _ = phantom(*size, seed=5)
        mask, probability = module.of_image(pixels, POINT)
        assert 100 < np.count_nonzero(mask) < pixels.size * 0.9
        found = segmenter.run(pixels, probability=True)
        assert dice(mask, found.mask) > 0.95
        assert np.abs(probability.astype(int) - found.probability).mean() < 3
        assert probability.max() > 200


def test_the_ensemble_is_no_single_member(folder, exported):
    pixels, _ = phantom(426, 400, seed=5)
    mask = open_model(exported)(pixels)
    for member in load_members([folder / "weights"]):
        alone = graph.PixelsToMask(ensemble([member.weights]), Calibration(20.0)).eval()
        assert dice(alone.of_image(pixels, POINT)[0], mask) < 0.95


def test_the_second_network_sees_the_mirror_image(folder, module):
    pixels, _ = phantom(300, 200, seed=5)
    first, second = load_members([folder / "weights"])
    other = ensemble([second.weights, first.weights], one_view=True)
    swapped = graph.PixelsToMask(other, Calibration(20.0)).eval()
    mirrored = swapped.of_image(np.ascontiguousarray(pixels[:, ::-1]), POINT)[1][:, ::-1]
    straight = module.of_image(pixels, POINT)[1]
    assert np.abs(mirrored.astype(int) - straight).max() <= 1
    assert np.abs(swapped.of_image(pixels, POINT)[1].astype(int) - straight).max() > 1


def test_any_size_is_taken(exported):
    segmenter = open_model(exported)
    for size in ((1, 1), (3, 500), (991, 400), (1200, 70)):
        mask = segmenter(phantom(*size)[0])
        assert mask.shape == size
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}


def test_a_flipped_body_and_salt_and_pepper_change_next_to_nothing(exported):
    segmenter = open_model(exported)
    pixels, _ = phantom(300, 200, seed=4)
    mask = segmenter(pixels)
    assert 0 < (mask > 0).mean() < 1
    turned = segmenter(np.ascontiguousarray(pixels[::-1]))[::-1]
    assert (mask != turned).mean() < 1e-3
    speckled = pixels.copy()
    speckled[::20, ::20] = 0
    assert (mask != segmenter(speckled)).mean() < 2e-2


def test_rows_of_a_slice_have_the_same_mask(exported):
    assert detail.kept_by([open_model(exported)(phantom(300, 200, seed=4)[0]) > 0])


def test_an_operating_point_can_be_asked_for(exported):
    segmenter = open_model(exported)
    pixels, _ = phantom(300, 200, seed=4)
    assert set(segmenter.operating_points) == set(POINTS["operating_points"])
    assert segmenter(pixels, operating_point="sensitive").any()
    assert not segmenter(pixels, operating_point="all empty").any()
    np.testing.assert_array_equal(segmenter(pixels), segmenter(pixels, operating_point="balanced"))


@pytest.mark.parametrize(("minimum", "marked"), [(0.0, 99), (0.5, 0), (0.01, 0)])
def test_too_few_pixels_above_the_minimum_probability_are_not_drawn(minimum, marked):
    logits, numbers = torch.full((40, 50), -6.0), (torch.tensor(minimum), 1.0)
    logits.view(-1)[:99] = 3
    assert int(mask(logits, Calibration(20.0), *numbers).sum()) == marked
    logits.view(-1)[99] = 3
    assert int(mask(logits, Calibration(20.0), *numbers).sum()) == 100


def test_the_file_names_what_made_it(exported, folder):
    segmenter = open_model(exported)
    metadata = segmenter.metadata
    assert segmenter.trained_on == ["a", "b0", "b1"]
    assert metadata["name"] == "efficientnet-lite0-unet-x2-int8"
    assert metadata["passes"] == "2: each network sees image or mirror image"
    assert metadata["training_commit"] == "commit-0, commit-1"
    assert metadata["data_fingerprint"] == "abc"
    assert json.loads(metadata["calibration"])["slope"] == 20.0
    assert metadata["operating_point"] == "balanced"
    assert metadata["dice"].startswith("0.4000 ± 0.2000 at balanced, out of fold on 10 patients; ")
    digest = hashlib.sha256((folder / "weights/fold-1.safetensors").read_bytes()).hexdigest()
    expected = {"file": "fold-1.safetensors", "fold": 1, "seed": 0, "sha256": digest}
    assert json.loads(metadata["members"])[1] == expected
    assert metadata["int8_ranges"] == "2 phantoms"
    assert int(metadata["canary_tumour_pixels"]) == np.count_nonzero(segmenter(phantom()[0]))
    assert {"source_commit", "version", "folds"} <= set(metadata)
    assert str(folder) not in json.dumps(metadata)
    model = onnx.load(exported)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", graph.OPSET)]
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param for d in shape] == ["height", "width"]
    digest = hashlib.sha256(exported.read_bytes()).hexdigest()
    assert exported.with_name("ensemble.onnx.sha256").read_text() == f"{digest}  ensemble.onnx\n"


def test_filters_are_int8_and_there_once(exported):
    model = onnx.load(exported)
    kinds = {onnx.TensorProto.INT8: 0, onnx.TensorProto.FLOAT: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in kinds:
            kinds[tensor.data_type] += int(np.prod(tensor.dims))
    int8, float32 = kinds.values()
    parameters = 2 * sum(p.numel() for p in UNet().parameters())
    assert 0.9 * parameters < int8 < parameters
    assert float32 < 0.1 * parameters
    assert exported.stat().st_size < 2 * 3.8e6


def test_no_cpu_overflows_when_it_adds_two_products_in_16_bits(exported):
    assert not overflowing(onnx.load(exported))


def test_the_last_dot_of_a_name_stays(folder, quick, capsys):
    assert _export(folder, "--out", str(folder / "mine-1.5")) == 0
    assert (folder / "mine-1.5.onnx").is_file()
    command = f"MODEL={folder / 'mine-1.5.onnx'} {sys.executable} -m tumour_segmenter serve"
    assert command in capsys.readouterr().out


def test_without_out_the_file_is_beside_its_weights(folder, quick):
    assert _export(folder, weights="weights/fold-1.safetensors") == 0
    metadata = open_model(folder / "weights/model.onnx").metadata
    assert metadata["name"] == "efficientnet-lite0-unet-int8"
    assert metadata["dice"].endswith("; 0.3000 ± 0.0200 on the 2 patients of fold 1")


def test_another_operating_point_brings_its_own_figures(folder, quick, tmp_path):
    out = tmp_path / "model.onnx"
    assert _export(folder, "--out", str(out), "--operating-point", "sensitive") == 0
    segmenter = open_model(out)
    assert segmenter.metadata["operating_point"] == "sensitive"
    assert segmenter.metadata["dice"].startswith("0.5000 ± 0.1000 at sensitive")
    numbers = onnx.load(out).graph.initializer[-2:]
    assert [onnx.numpy_helper.to_array(number) for number in numbers] == [0, 0.5]


def test_int8_ranges_come_from_training_images_where_there_are_data(folder, quick, tmp_path):
    data = draw_data(tmp_path / "data", patients=10, controls=2)
    seen = [case.hash for case in dataset.load(data)[:3]]
    one = _save(tmp_path / "w.safetensors", _network(0), 0, seen)
    (identity,) = (member.identity for member in load_members([one]))
    (tmp_path / "points.json").write_text(json.dumps(POINTS | {"members": [identity]}))
    out = tmp_path / "model.onnx"
    points = ["--operating-points", str(tmp_path / "points.json"), "--data", str(data)]
    assert export.main(["--weights", str(one), *points, "--out", str(out)]) == 0
    metadata = open_model(out).metadata
    assert metadata["int8_ranges"] == "3 training images"
    agreement = "1.0000 between the masks of float32 and INT8 of 10 patients"
    assert metadata["int8_agreement"] == agreement


def test_operating_points_are_fitted_on_unseen_data_without_a_file(folder, quick, tmp_path, capsys):
    data = draw_data(tmp_path / "data", patients=10, controls=10)
    out = tmp_path / "model.onnx"
    start = ["--weights", str(folder / "weights"), "--out", str(out)]
    assert export.main(start) == 2
    assert "give --data" in capsys.readouterr().err
    assert export.main([*start, "--data", str(data)]) == 0
    points = open_model(out).operating_points
    assert set(points) == {"sensitive", "balanced", "specific"}
    assert points["specific"]["specificity"] > points["sensitive"]["specificity"]


def _broken(old: str, new: dict) -> str:
    return json.dumps({**POINTS, old: new})


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"calibration": {"slope": 1}}',
        _broken("calibration", {"slope": -1}),
        _broken("calibration", {"slope": float("nan")}),
        _broken("operating_points", {"balanced": {"minimum_probability": 2}}),
        _broken("operating_points", {"other": POINTS["operating_points"]["balanced"]}),
        _broken(
            "operating_points",
            {"balanced": {"minimum_probability": 2, "dice": 0, "dice_standard_error": 0}},
        ),
    ],
)
def test_operating_points_that_make_no_sense_are_refused(folder, tmp_path, content, capsys):
    (tmp_path / "points.json").write_text(content)
    points = ["--operating-points", str(tmp_path / "points.json")]
    out = tmp_path / "model.onnx"
    assert export.main(["--weights", str(folder / "weights"), *points, "--out", str(out)]) == 2
    assert f"error: {tmp_path / 'points.json'}: is not what" in capsys.readouterr().err
    assert not out.exists()


def test_operating_points_of_other_networks_or_data_are_refused(folder, tmp_path, capsys):
    points, out = tmp_path / "points.json", tmp_path / "model.onnx"
    own, other = (member.identity for member in load_members([folder / "weights"]))
    start = ["--weights", str(folder / "weights/fold-0.safetensors"), "--out", str(out)]

    def refused(**changed: object) -> str:
        points.write_text(json.dumps(POINTS | {"members": [own, other]} | changed))
        assert export.main([*start, "--operating-points", str(points)]) == 2
        return capsys.readouterr().err

    assert "fold-0.safetensors, fold 0, is not among its networks" in refused(members=[other])
    assert "measured on data def, and fold-0.safetensors was" in refused(data_fingerprint="def")
    again = other | {"fold": 0, "file": "fold-0-seed-1.safetensors"}
    assert "averages fold-0-seed-1.safetensors with" in refused(members=[own, again])
    assert list(tmp_path.iterdir()) == [points]


def test_bad_usage_is_one_line(folder, tmp_path, capsys):
    def said(*arguments: str, **files: str) -> str:
        assert _export(folder, *arguments, **files) == 2
        return capsys.readouterr().err

    out = ["--out", str(tmp_path / "m.onnx")]
    assert "no operating point x; there are sensitive" in said(*out, "--operating-point", "x")
    assert "no such file" in said(*out, weights="none.safetensors")
    assert "is a folder" in said("--out", str(tmp_path))
    assert "none.json" in said(*out, points="none.json")
    (tmp_path / "empty").mkdir()
    assert "holds no *.safetensors" in said(*out, weights=str(tmp_path / "empty"))
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_an_input_is_never_written_over(folder, tmp_path, capsys):
    file = tmp_path / "weights.onnx"
    file.write_bytes((folder / "weights/fold-0.safetensors").read_bytes())
    before = file.read_bytes()
    assert _export(folder, "--out", str(file), weights=str(file)) == 2
    assert "would be written over" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_file_that_fails_is_not_written_over_a_good_one(folder, quick, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert _export(folder, "--out", str(out)) == 0
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    rows = check.compare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "compare", lambda *a: [replace(r, flipped=9**6) for r in rows(*a)])
        assert _export(folder, "--out", str(out)) == 1
    error = capsys.readouterr().err
    assert error.startswith("check failed: in the phantom of 1×1 pixels 531441 mask pixels")
    assert error.endswith("nothing was written\n")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == good


def test_a_full_disk_leaves_the_good_file_with_its_checksum(folder, quick, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert _export(folder, "--out", str(out)) == 0
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(file: int) -> None:
        if os.fstat(file).st_size < 1000:  # the model got the last of the room
            raise OSError(errno.ENOSPC, "no room")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert _export(folder, "--out", str(out), "--operating-point", "sensitive") == 1
    assert "the disk is full" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == good


def test_file_and_checksum_are_renamed_at_once(folder, quick, tmp_path, monkeypatch):
    calls, fsync, rename = [], os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda file: calls.append(os.fstat(file).st_size) or fsync(file)
    )
    monkeypatch.setattr(Path, "replace", lambda a, b: calls.append(b.name) or rename(a, b))
    assert _export(folder, "--out", str(tmp_path / "model.onnx")) == 0
    size = (tmp_path / "model.onnx").stat().st_size
    assert calls.index(size) < calls.index("model.onnx.sha256") < calls.index("model.onnx")
    assert open_model(tmp_path / "model.onnx")


GOOD = check.Row(426, 400, 1000, flipped=0, levels=0, agreement=0.99, off=0.01)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, replace(GOOD, flipped=18)], "18 mask pixels .* at most 17 may"),
        ([replace(GOOD, height=1, width=1, flipped=2)], "2 mask pixels .* at most 1 may"),
        ([GOOD, replace(GOOD, agreement=0.94)], "0.9650 on 2 phantoms, at least 0.97"),
        ([replace(GOOD, tumour=49, agreement=None)], "at most 49 pixels of a phantom, at least 50"),
        ([replace(GOOD, levels=2)], "differ by 2 of 255, at most 1 may"),
        ([GOOD, replace(GOOD, off=0.11)], "differ by 0.060 on 2 phantoms, at most 0.05"),
    ],
)
def test_a_failed_check_names_number_and_limit(rows, message):
    with pytest.raises(graph.ExportError, match=message):
        check.judge(rows)


def test_what_is_within_the_limits_passes():
    good = replace(GOOD, flipped=17, agreement=0.97)
    check.judge([good, replace(GOOD, height=1, width=1, tumour=0, flipped=1, agreement=None)])


@pytest.mark.parametrize(
    ("lost", "agreement", "message"),
    [(0.006, 1.0, "loses 0.0060 of Dice on 4 patients"), (0.0, 0.96, "0.9600 on 4 patients")],
)
def test_int8_that_is_worse_on_patients_is_refused(monkeypatch, lost, agreement, message):
    image = np.zeros((9, 9), np.uint8)
    cases = [dataset.Case(f"patient_{i}", image, image > 0) for i in range(4)]
    monkeypatch.setattr(check, "open_session", lambda model: model)
    monkeypatch.setattr(check, "run", lambda session, pixels: [session])

    def of(first: object, second: object) -> float:
        if isinstance(first, str):
            return agreement
        return 0.8 - (lost if second == "int8" else 0)

    monkeypatch.setattr(check.contract, "dice", of)
    with pytest.raises(graph.ExportError, match=message):
        check.on_patients("float32", "int8", cases)


def test_first_and_last_convolutions_stay_float32():
    def node(kind: str, *ends: str) -> onnx.NodeProto:
        return onnx.helper.make_node(kind, [ends[0]], [ends[1]], name=f"{kind}-{ends[1]}")

    chain = [node("Conv", *pair) for pair in ("ab", "bc", "cd", "de", "ef")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([*chain, node("Relu", "f", "g")], "g", [], [])
    )
    kept = int8.kept_in_float(model)
    assert set(kept) == {"Conv-b", "Conv-c", "Conv-d", "Conv-f", "Relu-g"}
