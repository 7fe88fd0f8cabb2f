"""Nobody is judged by a network that was shown them, or that comes from one that was."""

import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch

from tests.folders import draw_data, options_in
from train import crossval, fit, unseen
from train.files import write_json

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
RECIPE = """
epochs = 1
steps_per_epoch = 1
scales = [[1.0, 0.25]]
patients_per_batch = 1
controls_per_batch = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A hospital's data, those of another one, and a network that was shown all of the first."""
    folder = tmp_path_factory.mktemp("unseen")
    draw_data(folder / "theirs", patients=10, controls=5)
    draw_data(folder / "ours", patients=10, controls=5, size=(136, 120))
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "narrow.toml").write_text(RECIPE + "width = 0.5\nview_scales = [1.5]\n")
    assert _fit(folder, "shown-theirs", data="theirs", fold="none", config="narrow") == 0
    return folder


def _fit(
    folder: Path, out: str, *, data: str, fold: str, start: str = "", config: str = "recipe"
) -> int:
    arguments = options_in(folder, data=data, config=f"{config}.toml", out=out)
    arguments += [f"--start-from={folder / start}"] if start else []
    return fit.main([*arguments, "--fold", fold])


def test_what_others_trained_goes_on_with_own_people(folder):
    assert _fit(folder, "on-ours", data="ours", fold="0", start="shown-theirs") == 0
    config = json.loads((folder / "on-ours/config.json").read_text())
    # Its network and how it sees images are what they were; the recipe says nothing of them.
    assert (config["width"], config["view_scales"]) == (0.5, [1.5])
    folds = json.loads((folder / "on-ours/folds.json").read_text())
    theirs = json.loads((folder / "shown-theirs/folds.json").read_text())
    assert folds["shown_before"] == sorted(theirs["images"].values())


def test_one_of_their_people_among_ours_is_not_held_out(folder, capsys):
    shutil.copytree(folder / "ours", folder / "mixed")
    shutil.copy(
        folder / "theirs/controls/imgs/control_000.png",
        folder / "mixed/controls/imgs/control_777.png",
    )
    refused = [
        fold
        for fold in "01234"
        if _fit(folder, f"mixed-{fold}", data="mixed", fold=fold, start="shown-theirs") == 2
    ]
    assert len(refused) == 1
    assert "was shown 1 of the" in capsys.readouterr().err
    assert not (folder / f"mixed-{refused[0]}/last.pt").exists()
    assert _fit(folder, "mixed-none", data="mixed", fold="none", start="shown-theirs") == 0


def test_whom_a_predecessor_was_shown_is_not_forgotten(folder, capsys):
    assert _fit(folder, "then-ours", data="ours", fold="none", start="shown-theirs") == 0
    assert _fit(folder, "back", data="theirs", fold="2", start="then-ours") == 2
    assert "people of fold 2" in capsys.readouterr().err


def test_all_folds_go_on_from_one_file(folder):
    arguments = options_in(
        folder, config="recipe.toml", data="ours", out="folds", artifacts="report"
    )
    start = f"--start-from={_exported(folder, 'shown-theirs')}"
    assert crossval.main([*arguments, start, "--folds", "1", "3"]) == 0


def _exported(folder: Path, run: str) -> Path:
    """A file with the weights of a run, named and described as the export does."""
    from export.__main__ import main

    decision = ARTIFACTS / "decision.json"
    out = folder / f"{run}-exported/mine.onnx"
    out.parent.mkdir(exist_ok=True)
    assert main([f"--run={folder / run}", f"--decision={decision}", f"--out={out}"]) == 0
    return out


FACTS = {
    "seed": 0,
    "data": "d",
    "folds": {"a": 0, "b": 1},
    "images": {"a": "image of a", "b": "image of b"},
}


def _file(tmp_path: Path, without: int | None, data: str = "d", folds: dict | None = None) -> Path:
    """A model file that says what it was trained on, with a folds.json beside it."""
    model = onnx.ModelProto(ir_version=8)
    training = {"training": json.dumps({"fold": without}), "data_fingerprint": data}
    onnx.helper.set_model_props(model, training)
    onnx.save(model, tmp_path / "model.int8.onnx")
    if folds is not None:
        write_json(tmp_path / "model.folds.json", folds)
    return tmp_path / "model.int8.onnx"


@pytest.mark.parametrize(("without", "fold"), [(0, 0), (0, None), (None, None)])
def test_a_file_that_says_nothing_goes_on_where_it_stopped(tmp_path, without, fold):
    assert unseen.shown_by([_file(tmp_path, without)], fold, FACTS) == []


@pytest.mark.parametrize(
    ("without", "data", "seed"), [(1, "d", 0), (None, "d", 0), (0, "other", 0), (0, "d", 1)]
)
def test_a_file_that_says_nothing_goes_nowhere_else(tmp_path, without, data, seed):
    file = _file(tmp_path, without, data)
    with pytest.raises(ValueError, match="does not say whom it was shown"):
        unseen.shown_by([file], 0, FACTS | {"seed": seed})


def test_what_goes_on_from_a_file_that_says_nothing_cannot_say_it_either(tmp_path):
    assert unseen.shown_by([_file(tmp_path, 0, "other")], None, FACTS) is None
    heir = _file(tmp_path, None, "ours", FACTS | {"data": "ours", "shown_before": None})
    with pytest.raises(ValueError, match="does not say whom it was shown"):
        unseen.shown_by([heir], 0, FACTS)


def test_a_file_is_believed_what_stands_beside_it(tmp_path):
    theirs = FACTS | {"data": "other", "images": {"a": "x", "b": "y"}, "shown_before": ["z"]}
    file = _file(tmp_path, 1, "other", theirs)
    assert unseen.shown_by([file], 0, FACTS) == ["x", "z"]
    ours = theirs | {"images": {"a": "x", "b": "image of a"}}
    assert unseen.shown_by([_file(tmp_path, 1, "other", ours)], 0, FACTS) == ["x", "z"]
    for shown in (ours | {"shown_before": ["image of a"]}, ours | {"folds": {"a": 1, "b": 0}}):
        with pytest.raises(ValueError, match="was shown 1 of the 1 people of fold 0"):
            unseen.shown_by([_file(tmp_path, 1, "other", shown)], 0, FACTS)


def test_what_stands_beside_a_file_of_other_data_is_not_believed(tmp_path):
    theirs = FACTS | {"data": "a third", "shown_before": []}
    with pytest.raises(ValueError, match="does not say"):
        unseen.shown_by([_file(tmp_path, 1, "other", theirs)], 0, FACTS)


def test_the_shipped_model_says_whom_it_was_shown():
    folds, without = unseen.told_by(ARTIFACTS / "model.onnx")
    assert without is None
    assert folds["images"].keys() == folds["folds"].keys()
    assert len(set(folds["images"].values())) == len(folds["images"]) == 523


def test_a_digest_is_of_the_image_alone():
    from train.dataset import Case

    pixels = torch.arange(12, dtype=torch.uint8).numpy()
    one, label, shape = (
        unseen.digests([Case("x", pixels.reshape(form), pixels.reshape(form) > least)])["x"]
        for form, least in (((3, 4), 1), ((3, 4), 2), ((4, 3), 1))
    )
    assert one == label != shape
