"""The average of two networks' weights: between them, and it names both."""

import json
from pathlib import Path

import pytest
import torch

from train import average, weights
from train.canonical import Upright
from train.network import UNet


def _save(path: Path, seed: int, fold: str = "0", images: tuple[str, ...] = ()) -> Path:
    torch.manual_seed(seed)
    facts = {"fold": fold, "seed": "4", "trained_on": json.dumps(images), "by": str(seed)}
    weights.save(path, UNet(), facts, Upright(torch.full((64,), float(seed)).tolist()))
    return path


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    one = _save(tmp_path / "a/fold-0.safetensors", 1, images=("x", "y"))
    return one, _save(tmp_path / "b/fold-0.safetensors", 3, images=("y", "z"))


@pytest.mark.parametrize(
    "share",
    [0.3, *(pytest.param(end, marks=pytest.mark.slow) for end in (0.0, 1.0))],
)
def test_each_weight_lies_between_those_of_both(pair, share, tmp_path):
    one, other = pair
    out = tmp_path / "c.safetensors"
    assert average.main([str(one), str(other), "--share", str(share), "--out", str(out)]) == 0
    a, b, c = (weights.load(path) for path in (one, other, out))
    for name, value in c.network.state_dict().items():
        if value.is_floating_point():
            first, second = (of.network.state_dict()[name] for of in (a, b))
            torch.testing.assert_close(value, first + share * (second - first), atol=2e-3, rtol=0)
    assert torch.allclose(c.upright.weights, torch.full((64,), 1 + 2 * share))
    assert json.loads(c.facts["trained_on"]) == ["x", "y", "z"]
    assert c.facts["started_from"].startswith(f"average, {share:g} of the second: sha256 ")
    assert weights.sha256(one)[:16] in c.facts["started_from"]


def test_folders_are_averaged_fold_by_fold(pair, tmp_path):
    for folder, seed in (("a", 5), ("b", 6)):
        _save(tmp_path / folder / "fold-1.safetensors", seed, fold="1")
    command = [str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]
    assert average.main(command) == 0
    found = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert found == ["fold-0.safetensors", "fold-1.safetensors"]


def test_what_cannot_be_averaged_is_refused(pair, tmp_path, capsys):
    one, other = map(str, pair)
    out = ["--out", str(tmp_path / "c.safetensors")]

    def refused(*words: str) -> str:
        assert average.main([*words]) == 2
        return capsys.readouterr().err

    assert "--share is 2, expected 0 to 1" in refused(one, other, "--share", "2", *out)
    assert "two folders" in refused(one, str(tmp_path / "b"), *out)
    assert "would be written over" in refused(one, other, "--out", other)
    fold = str(_save(tmp_path / "f.safetensors", 7, fold="2"))
    assert "of folds 0 and 2" in refused(one, fold, *out)
    (tmp_path / "empty").mkdir()
    assert "holds no fold-K" in refused(str(tmp_path / "empty"), str(tmp_path / "a"), *out)
    assert not (tmp_path / "c.safetensors").exists()


@pytest.mark.parametrize("folder", ["a", "b"])
def test_folders_of_different_folds_are_refused(pair, tmp_path, folder, capsys):
    _save(tmp_path / folder / "fold-1.safetensors", 5, fold="1")
    command = [str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]
    assert average.main(command) == 2
    lacking = tmp_path / ("b" if folder == "a" else "a")
    assert f"{lacking}: has no fold-1.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_nothing_is_written_where_one_fold_cannot_be_averaged(pair, tmp_path, capsys):
    for folder, fold in (("a", "1"), ("b", "2")):
        _save(tmp_path / folder / "fold-1.safetensors", 5, fold=fold)
    command = [str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]
    assert average.main(command) == 2
    assert "of folds 1 and 2" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
