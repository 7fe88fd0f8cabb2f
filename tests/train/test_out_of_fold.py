"""Each image is measured by networks, calibration and operating points that did not see it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special

from tests.support.folders import draw_data
from train import dataset, measured, out_of_fold
from train.measured import Measured, Member, Unseen
from train.robustness import SALT_AND_PEPPER, VARIANTS


class Ensemble:
    """Stands for networks whose logits grow with the uptake; which ones is kept in `asked`."""

    def __init__(self, members: list) -> None:
        self.names = tuple(member.facts["fold"] for member in members)

    def of_image(self, uptake: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(len(self.names)).normal(0, 0.1, uptake.shape)
        own = int(uptake.sum()) % 97 / 50  # its own for each case, the same when it is mirrored
        return (uptake / 16.0 - 9 + noise + own).astype(np.float32)


@pytest.fixture(autouse=True)
def _networks(monkeypatch):
    monkeypatch.setattr(measured, "ensemble", Ensemble)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return draw_data(tmp_path_factory.mktemp("data"), patients=10, controls=10)


@pytest.fixture(scope="module")
def cases(data) -> list[dataset.Case]:
    return dataset.load(data)


def _member(fold: int, cases: list, seed: int = 0, hold_out: bool = True) -> Member:
    folds = dataset.folds(cases)
    seen = [c.hash for c in cases if folds[c.name] != fold or not hold_out]
    facts = {"fold": str(fold), "seed": str(seed), "trained_on": json.dumps(seen)}
    path = Path(f"fold-{fold}-seed-{seed}.safetensors")
    return Member(path, SimpleNamespace(facts=facts), f"{fold}{seed}")


def _all(cases: list, seeds: int = 1) -> list[Member]:
    return [_member(f, cases, s) for s in range(seeds) for f in range(dataset.FOLDS)]


def test_an_image_is_predicted_by_all_networks_that_have_not_seen_it(cases):
    unseen = Unseen(_all(cases, seeds=2), cases)
    folds = dataset.folds(cases)
    assert unseen.cases == cases
    for case in cases:
        unseen.predict(case, case.uptake)
        assert unseen.fold(case) == folds[case.name]
    asked = {ensemble.names for ensemble in unseen._ensembles.values()}
    assert asked == {(str(fold),) * 2 for fold in range(dataset.FOLDS)}


def test_images_that_every_network_has_seen_are_left_out(cases):
    folds = dataset.folds(cases)
    unseen = Unseen([_member(3, cases)], cases)
    assert {folds[case.name] for case in unseen.cases} == {3}
    with pytest.raises(ValueError, match="images trained on by every network: 20 of 20"):
        Unseen([_member(3, cases, hold_out=False)], cases)


def test_an_image_that_no_network_has_seen_has_no_fold(cases):
    others = [c for c in cases if c.name not in ("patient_000", "control_000")]
    unseen = Unseen(_all(others), cases)
    assert unseen.fold(cases[0]) is None
    unseen.predict(cases[0], cases[0].uptake)
    assert [e.names for e in unseen._ensembles.values()] == [tuple("01234")]


def test_no_image_takes_part_in_the_operating_point_it_is_measured_at(cases):
    unseen = Unseen(_all(cases), cases)
    plain = Measured(unseen)
    part = unseen.part[0]
    real = Unseen.predict

    def other(self: Unseen, case: dataset.Case, uptake: np.ndarray) -> np.ndarray:
        logits = real(self, case, uptake)
        return logits - 3 if dataset.folds(cases)[case.name] == part else logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Unseen, "predict", other)
        changed = Measured(unseen)
    for i, own in enumerate(unseen.part):
        assert (plain.nested[i] == changed.nested[i]) == (own == part)
    assert plain.points != changed.points


def test_operating_points_empty_their_share_of_controls(cases):
    found = Measured(Unseen(_all(cases), cases))
    figures = found.figures()
    assert list(figures) == ["sensitive", "balanced", "specific"]
    assert found.default == "balanced"
    controls = found.reached[~found.unseen.patient]
    for name, share in (("balanced", 0.5), ("specific", 0.8)):
        minimum = found.points.minimum[name]
        assert (special.expit(controls) <= minimum).mean() == share
        assert figures[name]["minimum_probability"] == minimum
    assert figures["sensitive"]["minimum_probability"] == 0
    assert figures["specific"]["specificity"] > figures["balanced"]["specificity"]


def test_few_controls_leave_the_operating_point_that_needs_none(cases):
    some = [c for c in cases if c.is_patient or c.name < "control_009"]
    found = Measured(Unseen(_all(some), some))
    assert (found.default, list(found.figures())) == ("sensitive", ["sensitive"])
    alone = [c for c in cases if c.is_patient]
    assert "specificity" not in Measured(Unseen(_all(alone), alone)).figures()["sensitive"]


@pytest.fixture(scope="module")
def content(cases) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "ensemble", Ensemble)
        return out_of_fold.collect(Measured(Unseen(_all(cases, seeds=2), cases)), "data")


def test_the_figures_are_those_of_the_images(content):
    dice = [row["dice"]["balanced"] for row in content["patients"].values()]
    figures = content["figures"]
    mean, (low, high) = figures["dice"]
    assert mean == pytest.approx(np.mean(dice), abs=1e-4)
    assert low < mean < high
    assert content["operating_points"]["balanced"]["dice"] == mean
    assert figures["failures"] == sum(d < 0.1 for d in dice)
    found = [hit for row in content["patients"].values() for hit in row["found"]]
    assert figures["lesion_sensitivity"][0] == pytest.approx(np.mean(found), abs=1e-4)
    assert sum(n for _, n in figures["lesion_sensitivity_by_pixels"].values()) == len(found)
    pixels = [row["pixels"]["balanced"] for row in content["controls"].values()]
    expected = np.mean([p == 0 for p in pixels])
    assert content["operating_points"]["balanced"]["specificity"] == expected
    assert sum(n for *_, n in content["dice_by_fold"].values()) == len(dice)


def test_images_are_named_by_fold_and_hash(content, cases):
    folds = dataset.folds(cases)
    for case in cases:
        row = content["patients" if case.is_patient else "controls"][case.name]
        assert (row["fold"], row["hash"]) == (folds[case.name], case.hash)


def test_a_lower_threshold_finds_more_and_is_wrong_more_often(content):
    curve = list(content["froc"]["thresholds"].values())
    assert curve[0]["sensitivity"] >= curve[-1]["sensitivity"]
    assert curve[0]["per_image_of_controls"] > curve[-1]["per_image_of_controls"]


def test_seeds_are_compared_with_their_average(content):
    assert list(content["averaging"]) == ["0", "1"]
    for own, _gain, error in content["averaging"].values():
        assert 0 < own < 1
        assert error >= 0


def test_each_size_of_lesion_has_its_group():
    row = {"found": [1, 0, 1, 1, 0], "lesions": [1, 49, 50, 999, 1000], "hausdorff_95": None}
    row |= {"dice": {"a": 0.05}, "false_positive_lesions": 2}
    figures = out_of_fold._figures({"x": row, "y": row}, "a")
    assert figures["lesion_sensitivity_by_pixels"] == {
        "below 50": [0.5, 4],
        "50 to 199": [1.0, 2],
        "200 to 999": [1.0, 2],
        "1000 and more": [0.0, 2],
    }
    assert figures["failures"] == 2
    assert figures["false_positive_lesions_per_patient"] == [2.0, [2.0, 2.0]]
    assert figures["hausdorff_95_median"] is None


def test_variants_keep_image_and_truth_together():
    uptake = np.zeros((121, 90), np.uint8)
    uptake[30:50, 20:40] = 200
    truth = uptake > 100
    for name, change in VARIANTS.items():
        image, label = change(uptake, truth)
        assert (image.shape, image.dtype, label.dtype) == (uptake.shape, np.uint8, bool)
        speckled = SALT_AND_PEPPER if "salt" in name else 0.01
        assert ((image > 100) != label).mean() <= speckled
        assert name == "6 % salt and pepper" or label.sum() == pytest.approx(400, abs=12)
    changed = {name: change(uptake, truth)[0] for name, change in VARIANTS.items()}
    assert changed["uptake × 0.8"].max() == 160
    assert changed["uptake × 1.2"].max() == 240
    assert (changed["6 % salt and pepper"] != uptake).mean() == pytest.approx(0.05, abs=0.02)
    assert np.argwhere(changed["mirrored"]).min(axis=0).tolist() == [30, 50]
    assert np.argwhere(changed["vertically flipped"]).min(axis=0).tolist() == [71, 20]
    for degrees in (-10, -5, 5, 10):
        turned = VARIANTS[f"rotated by {degrees}°"](uptake, truth)[0]
        assert (turned != VARIANTS["rotated by 5°"](uptake, truth)[0]).any() == (degrees != 5)


def test_the_command_writes_numbers_page_and_plot(data, cases, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(out_of_fold, "load_members", lambda paths: _all(cases))
    start = ["--weights", "w", "--data", str(data)]
    assert out_of_fold.main([*start, "--out", str(tmp_path / "new/out")]) == 0
    written = {path.name: path for path in (tmp_path / "new/out").iterdir()}
    assert set(written) == {"out_of_fold.json", "RESULTS.md", "out_of_fold.png"}
    content = json.loads(written["out_of_fold.json"].read_text())
    assert len(content["patients"]) == len(content["controls"]) == 10
    page = written["RESULTS.md"].read_text()
    for text in (*VARIANTS, *content["operating_points"], "below 50", "Hausdorff"):
        assert f"| {text}" in page or text in page
    assert set(content["robustness"]) == set(VARIANTS)
    assert content["robustness"]["mirrored"][0] == pytest.approx(0, abs=0.1)
    # These networks take every grain of salt and pepper for tumour or hole.
    assert content["robustness"]["6 % salt and pepper"][0] > 0.05
    assert "written: " in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    assert out_of_fold.main([*start, "--out", str(tmp_path / "file")]) == 1
    assert "error: " in capsys.readouterr().err


def test_bad_weights_are_one_line(data, tmp_path, capsys):
    start = ["--data", str(data), "--out", str(tmp_path / "out"), "--weights"]
    (tmp_path / "empty").mkdir()
    assert out_of_fold.main([*start, str(tmp_path / "empty")]) == 2
    assert "holds no *.safetensors" in capsys.readouterr().err
    assert out_of_fold.main([*start, str(tmp_path / "none.safetensors")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
