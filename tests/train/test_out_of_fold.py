"""Each image is measured by networks, calibration and operating points that did not see it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import special

from tests.support.folders import draw_data
from train import dataset, measured, out_of_fold, records, results_page
from train.measured import Measured
from train.members import Member
from train.robustness import SALT_AND_PEPPER, VARIANTS

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]


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
    found = Measured(_all(cases, seeds=2), cases)
    folds = dataset.folds(cases)
    assert found.cases == cases
    assert [found.network_fold(case) for case in cases] == [folds[case.name] for case in cases]
    asked = {ensemble.names for ensemble in found._ensembles.values()}
    assert asked == {(str(fold),) * 2 for fold in range(dataset.FOLDS)}


def test_images_that_every_network_has_seen_are_left_out(cases):
    folds = dataset.folds(cases)
    found = Measured([_member(3, cases)], cases)
    assert {folds[case.name] for case in found.cases} == {3}
    with pytest.raises(ValueError, match="images trained on by every network: 20 of 20"):
        Measured([_member(3, cases, hold_out=False)], cases)


def test_an_image_that_no_network_has_seen_has_no_fold(cases):
    others = [c for c in cases if c.name not in ("patient_000", "control_000")]
    found = Measured(_all(others), cases)
    assert found.network_fold(cases[0]) is None
    assert tuple("01234") in [ensemble.names for ensemble in found._ensembles.values()]


def test_no_image_takes_part_in_the_operating_point_it_is_measured_at(cases, monkeypatch):
    plain = Measured(_all(cases), cases)
    fold = plain.nested_fold[0]
    real = Measured.predict

    def other(self: Measured, case: dataset.Case, uptake: np.ndarray) -> np.ndarray:
        logits = real(self, case, uptake)
        return logits - 3 if dataset.folds(cases)[case.name] == fold else logits

    monkeypatch.setattr(Measured, "predict", other)
    changed = Measured(_all(cases), cases)
    for i, own in enumerate(plain.nested_fold):
        assert (plain.nested[i] == changed.nested[i]) == (own == fold)
    assert plain.points != changed.points


def test_all_images_of_a_person_are_nested_together(tmp_path):
    data = draw_data(tmp_path, patients=10, controls=10)
    pairs = [(f"P{i}", f"{kind}_{i:03}") for i in range(10) for kind in ("patient", "control")]
    (data / "persons.csv").write_text("person,image\n" + "\n".join(map(",".join, pairs)))
    found = Measured(_all(dataset.load(data)), dataset.load(data))
    fold = dict(zip([case.name for case in found.cases], found.nested_fold, strict=True))
    assert all(fold[f"patient_{i:03}"] == fold[f"control_{i:03}"] for i in range(10))


def test_each_operating_point_does_what_it_is_for(cases):
    found = Measured(_all(cases), cases)
    table = found.table()
    assert list(table) == ["sensitive", "balanced", "specific"]
    minimum = {name: of.minimum_probability for name, of in found.points.named.items()}
    reached = special.expit(found._deciding)
    assert (reached[~found.is_patient] <= minimum["specific"]).mean() == 0.8
    assert minimum["balanced"] < reached[found.is_patient].min()
    assert minimum["sensitive"] == 0
    for name, point in found.points.named.items():
        assert table[name]["minimum_probability"] == point.minimum_probability
        assert table[name]["threshold_factor"] == point.threshold_factor
    assert table["sensitive"]["lesion_sensitivity"] >= 0.8
    assert table["specific"]["specificity"] >= table["balanced"]["specificity"]


def test_few_controls_are_measured_and_nothing_is_fitted_on_them(cases):
    some = [c for c in cases if c.is_patient or c.name < "control_009"]
    table = Measured(_all(some), some).table()
    assert list(table) == ["sensitive", "balanced"]
    assert table["balanced"]["minimum_probability"] == table["balanced"]["specificity"] == 0
    alone = [c for c in cases if c.is_patient]
    table = Measured(_all(alone), alone).table()
    assert all("specificity" not in point for point in table.values())


@pytest.fixture(scope="module")
def content(cases) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "ensemble", Ensemble)
        return out_of_fold.collect(Measured(_all(cases, seeds=2), cases), "data")


@pytest.mark.parametrize("name", ["sensitive", "balanced", "specific"])
def test_the_figures_are_those_of_the_images(content, name):
    rows, controls = list(content["patients"].values()), list(content["controls"].values())
    found = [hit for row in rows for hit in row["found"][name]]
    means = {
        "dice": [row["dice"][name] for row in rows],
        "lesion_sensitivity": found,
        "false_lesions_per_patient": [row["false_lesions"][name] for row in rows],
        "specificity": [row["pixels"][name] == 0 for row in controls],
        "false_lesions_per_control": [row["false_lesions"][name] for row in controls],
    }
    point, ends = content["operating_points"][name], content["intervals"][name]
    assert set(ends) == set(means)
    for key, values in means.items():
        assert point[key] == pytest.approx(np.mean(values), abs=1e-4)
        assert ends[key][0] <= point[key] <= ends[key][1]
    figures = content["figures"]
    assert figures["failures"] == sum(row["dice"]["balanced"] < 0.1 for row in rows)
    assert sum(n for _, n in figures["lesion_sensitivity_by_pixels"].values()) == len(found)
    assert sum(n for *_, n in content["dice_by_fold"].values()) == len(rows)


def test_images_are_named_by_fold_and_hash(content, cases):
    folds = dataset.folds(cases)
    for case in cases:
        row = content["patients" if case.is_patient else "controls"][case.name]
        assert (row["fold"], row["hash"]) == (folds[case.name], case.hash)


def test_a_lower_factor_finds_more_and_is_wrong_more_often(content):
    high, *_, low = content["threshold_factors"].values()
    assert low[1] >= high[1]
    assert low[2] > high[2]


def test_the_bins_of_the_reliability_hold_all_pixels_of_patients(content, cases):
    bins = content["reliability"]["bins"]
    assert sum(pixels for pixels, *_ in bins) == sum(c.truth.size for c in cases if c.is_patient)
    assert [p for _, p, *_ in bins] == sorted(p for _, p, *_ in bins)
    for _, _, share, (low, high) in bins:
        assert 0 <= low <= share <= high <= 1


def test_seeds_are_compared_with_their_average(content):
    assert list(content["averaging"]) == ["0", "1"]
    for own, _gain, error in content["averaging"].values():
        assert 0 < own < 1
        assert error >= 0


def test_each_size_of_lesion_has_its_group():
    row = {"found": {"balanced": [1, 0, 1, 1, 0]}, "lesions": [1, 49, 50, 999, 1000]}
    row |= {"hausdorff_95": None, "dice": {"balanced": 0.05}}
    figures = records.more_figures({"patients": {"x": row, "y": row}})
    assert figures["lesion_sensitivity_by_pixels"] == {
        "below 50": [0.5, 4],
        "50 to 199": [1.0, 2],
        "200 to 999": [1.0, 2],
        "1000 and more": [0.0, 2],
    }
    assert figures["failures"] == 2
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
    assert set(written) == set(out_of_fold.OUTPUTS)
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
    for name in ("operating_points.png", "reliability.png"):
        assert f"]({name})" in page
        with Image.open(written[name]) as picture:
            assert picture.width > 400
    assert "locked test set" not in page
    (tmp_path / "file").write_text("")
    assert out_of_fold.main([*start, "--out", str(tmp_path / "file")]) == 1
    assert "error: " in capsys.readouterr().err


def test_the_page_shows_a_locked_test_set_where_there_is_one(content):
    locked = json.loads((PROJECT / "artifacts" / out_of_fold.LOCKED).read_text())
    page = results_page.as_markdown(content, locked)
    assert "| Dice, mean | 0.811 (0.768 to 0.851) | 0.775 (0.697 to 0.840) |" in page
    assert "Measured on the file of 1.0.0, 10 passes" in page


def test_bad_weights_are_one_line(data, tmp_path, capsys):
    start = ["--data", str(data), "--out", str(tmp_path / "out"), "--weights"]
    (tmp_path / "empty").mkdir()
    assert out_of_fold.main([*start, str(tmp_path / "empty")]) == 2
    assert "holds no *.safetensors" in capsys.readouterr().err
    assert out_of_fold.main([*start, str(tmp_path / "none.safetensors")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
