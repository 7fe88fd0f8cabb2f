"""Finished runs teach another one, unless they have seen whom it is to be judged by."""

import json

import pytest
import torch

from tests.folders import draw_data, options_in
from train import crossval, evaluate, fit, losses, teacher
from train.detail import with_detail
from train.old_network import MobileNetUNet
from train.teacher import Teachers

RECIPE = """
epochs = 1
steps_per_epoch = 2
scales = [[1.0, 0.25]]
patients_per_batch = 2
controls_per_batch = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, a recipe, and two teachers that held fold 1 out."""
    folder = tmp_path_factory.mktemp("taught")
    draw_data(folder / "data", patients=10, controls=5)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "narrow.toml").write_text(RECIPE + "width = 0.5\n")
    assert _fit(folder, "wide/fold-1") == 0
    assert _fit(folder, "narrow/fold-1", config="narrow") == 0
    return folder


def _fit(folder, out: str, *more: str, fold: str = "1", config: str = "recipe") -> int:
    arguments = options_in(folder, data="data", config=f"{config}.toml", out=out)
    return fit.main([*arguments, "--fold", fold, *more])


def _weights(out) -> dict[str, torch.Tensor]:
    return torch.load(out / "last.pt", weights_only=True)["average"]


def test_a_student_of_any_size_of_teachers_learns_something_else(folder):
    teachers = [
        "--teacher",
        str(folder / "wide/fold-1"),
        "--teacher",
        str(folder / "narrow/fold-1"),
    ]
    assert _fit(folder, "student", *teachers) == 0
    alone, taught = _weights(folder / "wide/fold-1"), _weights(folder / "student")
    assert any(not torch.equal(alone[name], taught[name]) for name in alone)
    assert len(json.loads((folder / "student/config.json").read_text())["teachers_sha256"]) == 2


def test_who_has_seen_the_held_out_does_not_teach(folder, capsys):
    assert _fit(folder, "leak", "--teacher", str(folder / "wide/fold-1"), fold="0") == 2
    assert "only what held out the same fold" in capsys.readouterr().err
    assert not (folder / "leak/last.pt").exists()
    # Where nobody is held out, nothing can leak.
    assert _fit(folder, "all", "--teacher", str(folder / "wide/fold-1"), fold="none") == 0


def test_a_missing_teacher_is_one_clear_line(folder, capsys):
    assert _fit(folder, "orphan", "--teacher", str(folder / "nobody")) == 2
    assert "nobody" in capsys.readouterr().err


def test_a_share_without_teachers_is_refused(folder, capsys):
    (folder / "share.toml").write_text(RECIPE + "teacher_share = 0.7\n")
    with pytest.raises(SystemExit) as stop:
        _fit(folder, "share", config="share")
    assert stop.value.code == 2
    assert "teacher_share needs --teacher" in capsys.readouterr().err


def test_teachers_that_were_changed_do_not_go_on(folder, capsys):
    assert _fit(folder, "changed", "--teacher", str(folder / "narrow/fold-1")) == 0
    state = torch.load(folder / "changed/last.pt", weights_only=True)
    state["config"]["teachers_sha256"] = ["0"]
    torch.save(state, folder / "changed/last.pt")
    assert fit.main(["--resume", "--out", str(folder / "changed")]) == 2
    assert "not those that the run was started with" in capsys.readouterr().err


def test_cross_validation_pairs_teachers_and_students_by_fold(folder):
    arguments = options_in(
        folder, config="recipe.toml", data="data", out="students", artifacts="artifacts"
    )
    assert crossval.main([*arguments, "--folds", "1", f"--teachers={folder / 'narrow'}"]) == 0
    told = json.loads((folder / "artifacts/experiments/recipe.json").read_text())
    assert told["taught_by"] == ["narrow"]
    assert str(folder) not in json.dumps(told)


def test_teachers_say_the_mean_of_their_probabilities():
    torch.manual_seed(0)
    networks = [MobileNetUNet(0.5).eval() for _ in range(2)]
    uptake = torch.rand(2, 1, 64, 64)
    said = Teachers(networks, as_served=False)(uptake)
    one, other = (network.half_resolution_logits(uptake).sigmoid() for network in networks)
    assert torch.allclose(said, (one + other) / 2)
    assert not said.requires_grad


def test_teachers_say_what_is_served_of_two_views():
    torch.manual_seed(0)
    network = MobileNetUNet(0.5).eval()
    uptake = torch.rand(2, 1, 64, 64)
    said = Teachers([network], as_served=True)(uptake)
    with torch.no_grad():
        views = [evaluate.logits_of_view(network, uptake, *view) for view in teacher.VIEWS]
    served = with_detail((views[0] + views[1]) / 2, uptake)
    assert torch.allclose(said, served.sigmoid(), atol=1e-6)


def test_several_teachers_see_one_view_each_of_what_is_served():
    torch.manual_seed(0)
    networks = [MobileNetUNet(0.5).eval() for _ in range(3)]
    uptake = torch.rand(2, 1, 64, 64)
    said = Teachers(networks, as_served=True)(uptake)
    with torch.no_grad():
        seen = [
            evaluate.logits_of_view(network, uptake, *teacher.VIEWS[i % 2])
            for i, network in enumerate(networks)
        ]
    served = with_detail(torch.stack(seen).mean(0), uptake)
    assert torch.allclose(said, served.sigmoid(), atol=1e-6)


def test_a_student_of_what_is_served_learns_something_else(folder):
    (folder / "served.toml").write_text(RECIPE + "as_served = true\n")
    weights = []
    for config in ("recipe", "served"):
        out = f"taught-by-{config}"
        assert _fit(folder, out, "--teacher", str(folder / "wide/fold-1"), config=config) == 0
        weights.append(_weights(folder / out))
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_only_the_teachers_own_probability_pleases_them_wholly():
    probability = torch.tensor([0.1, 0.5, 0.8]).reshape(1, 1, 1, 3)
    logits = torch.logit(probability).requires_grad_()
    truth = torch.tensor([0.0, 1.0, 1.0]).reshape(1, 1, 1, 3)
    losses.taught(logits, truth, 1, probability, 1.0).backward()
    assert logits.grad.abs().max() < 1e-6
    assert losses.taught(logits, truth, 1, probability, 0.0) == losses.bce_and_dice(
        logits, truth, 1
    )
