"""Going on from a file as the export writes it."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from serve.phantom import phantom
from tests.folders import draw_data, options_in
from train import crossval, fit, warm_start
from train.old_network import MobileNetUNet
from train.provenance import sha256


@pytest.fixture(scope="module")
def network() -> MobileNetUNet:
    """A network whose norms have seen something, so that folding them changes the weights."""
    torch.manual_seed(0)
    network = MobileNetUNet().train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(4, 1, 128, 128))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
    return network.eval()


@pytest.fixture(scope="module")
def folded(network) -> onnx.ModelProto:
    return _fold(network)


def _fold(network: MobileNetUNet) -> onnx.ModelProto:
    """What the export leaves of it: convolutions with the norms folded in."""
    arrays = {"head.weight": network.head.weight, "head.bias": network.head.bias}
    for name, conv, norm in warm_start.normed_convolutions(network):
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        arrays[f"{name}.weight"] = conv.weight * factor[:, None, None, None]
        arrays[f"{name}.bias"] = norm.bias - norm.running_mean * factor
    arrays |= {f"context.{name}": value for name, value in network.context.named_parameters()}
    initializers = [
        onnx.numpy_helper.from_array(value.detach().numpy(), f"segmentation.network.{name}")
        for name, value in arrays.items()
    ]
    return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializers))


def _batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(4, 1, 128, 128, generator=generator) for _ in range(3)]


def test_the_network_does_what_the_file_does(network, folded):
    torch.manual_seed(1)
    other = MobileNetUNet()
    warm_start.load(other, folded, _batches())
    other.eval()
    image = torch.rand(1, 1, 192, 128)
    with torch.no_grad():
        assert torch.allclose(other(image), network(image), atol=1e-3, rtol=1e-3)


def test_a_context_is_read_too():
    torch.manual_seed(0)
    network = MobileNetUNet(context=True).eval()
    nn.init.normal_(network.context.transform[-1].weight)
    model = _fold(network)
    onnx.helper.set_model_props(model, {"training": '{"context": true}'})
    other = warm_start.network_like(model)
    warm_start.load(other, model, _batches())
    image = torch.rand(1, 1, 192, 128)
    with torch.no_grad():
        assert torch.allclose(other.eval()(image), network(image), atol=1e-3, rtol=1e-3)


def test_it_does_nearly_the_same_with_the_statistics_of_a_batch(folded):
    """Otherwise the first steps of training would undo what was learnt."""
    other = MobileNetUNet()
    batches = _batches()
    warm_start.load(other, folded, batches)
    with torch.no_grad():
        expected = other.eval()(batches[0])
        found = other.train()(batches[0])
    assert (found - expected).abs().mean() < 0.1 * expected.std()


def test_another_network_is_refused(folded):
    other = onnx.ModelProto()
    other.CopyFrom(folded)
    del other.graph.initializer[0]
    with pytest.raises(ValueError, match="another network"):
        warm_start.load(MobileNetUNet(), other, _batches())


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.onnx"):
        warm_start.read(tmp_path / "model.onnx")


def _settings(folder, share: float) -> str:
    (folder / "small.toml").write_text(
        "scales = [[1.0, 0.25]]\nepochs = 1\nsteps_per_epoch = 2\npatients_per_batch = 2\n"
        f"start_share = {share}\n"
    )
    return str(folder / "small.toml")


def _averaged(out) -> dict[str, torch.Tensor]:
    return torch.load(out / "last.pt", weights_only=True)["average"]


def test_a_run_ends_between_what_it_started_from_and_what_it_learnt(folded, tmp_path):
    data = draw_data(tmp_path / "data", patients=10, controls=5)
    onnx.save(folded, tmp_path / "start.onnx")
    start = ["--data", str(data), "--fold", "none", "--start-from", str(tmp_path / "start.onnx")]
    ends = {}
    for share in (0.0, 0.5, 1.0):
        out = tmp_path / f"run-{share}"
        config = _settings(tmp_path, share)
        assert fit.main([*start, "--config", config, "--out", str(out)]) == 0
        ends[share] = _averaged(out)
    stem = "module.encoder.features.0.0.weight"
    learnt, between, first = (ends[share][stem] for share in (0.0, 0.5, 1.0))
    assert not torch.equal(learnt, first)
    assert torch.allclose(between, (learnt + first) / 2, atol=1e-6)
    # Blended once, however often the finished run is looked at.
    assert fit.main(["--resume", "--out", str(out.with_name("run-0.5"))]) == 0
    assert torch.equal(_averaged(out.with_name("run-0.5"))[stem], between)


def test_a_share_of_no_start_is_refused(tmp_path, capsys):
    data = draw_data(tmp_path / "data", patients=10, controls=5)
    start = ["--data", str(data), "--config", _settings(tmp_path, 0.5), "--fold", "none"]
    with pytest.raises(SystemExit):
        fit.main([*start, "--out", str(tmp_path / "run")])
    assert "start_share needs --start-from" in capsys.readouterr().err


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """A folder with data and, in first/, fold 1 of a tiny recipe cross-validated."""
    folder = tmp_path_factory.mktemp("stages")
    draw_data(folder / "data", patients=10, controls=5)
    _settings(folder, 0.0)
    assert _cross_validate(folder, "first") == 0
    return folder


def _cross_validate(folder, out: str, *more: str, config: str = "small") -> int:
    arguments = options_in(
        folder, config=f"{config}.toml", data="data", out=out, artifacts="artifacts"
    )
    return crossval.main([*arguments, "--folds", "1", *more])


def _go_on(folder, fold: str, *more: str) -> int:
    arguments = options_in(folder, data="data", config="small.toml", out=f"from-run-{fold}")
    start = f"--start-from={folder / 'first/fold-1'}"
    return fit.main([*arguments, start, "--fold", fold, *more])


def test_each_fold_goes_on_from_its_own_network_of_another_recipe(first_stage):
    assert _cross_validate(first_stage, "second", "--start-from", str(first_stage / "first")) == 0
    config = json.loads((first_stage / "second/fold-1/config.json").read_text())
    checkpoint = first_stage / "first/fold-1/last.pt"
    assert config["start_from_sha256"] == sha256(checkpoint)
    told = json.loads((first_stage / "artifacts/experiments/small.json").read_text())
    assert told["runs"]["1"]["start_from_sha256"] == sha256(checkpoint)
    assert str(first_stage) not in json.dumps(told)


def test_networks_of_which_only_the_files_are_left_start_and_teach(first_stage, folded):
    facts = json.loads((first_stage / "first/fold-1/folds.json").read_text())
    kept = first_stage / "kept/fold-1/model.int8.onnx"
    kept.parent.mkdir(parents=True)
    model = onnx.ModelProto()
    model.CopyFrom(folded)
    training = {"training": json.dumps({"fold": 1}), "data_fingerprint": facts["data"]}
    onnx.helper.set_model_props(model, training)
    onnx.save(model, kept)
    options = [f"--start-from={first_stage / 'kept'}", f"--teachers={first_stage / 'kept'}"]
    assert _cross_validate(first_stage, "third", *options) == 0
    config = json.loads((first_stage / "third/fold-1/config.json").read_text())
    assert config["start_from_sha256"] == sha256(kept)
    assert config["teachers_sha256"] == [sha256(kept)]


def test_no_epochs_measure_the_network_that_is_there(first_stage):
    settings = (first_stage / "small.toml").read_text().replace("epochs = 1", "epochs = 0")
    (first_stage / "as-it-is.toml").write_text(settings + "view_scales = [1.0, 1.5]\n")
    start = ["--start-from", str(first_stage / "first")]
    assert _cross_validate(first_stage, "as-it-is", *start, config="as-it-is") == 0
    first = _averaged(first_stage / "first/fold-1")
    measured = _averaged(first_stage / "as-it-is/fold-1")
    assert all(torch.equal(measured[name], first[name]) for name in first if "module." in name)
    told = json.loads((first_stage / "artifacts/experiments/as-it-is.json").read_text())
    assert told["runs"]["1"] | {"steps": 0, "minutes": 0.0} == told["runs"]["1"]
    before, after = (
        json.loads((first_stage / name / "fold-1/held_out.json").read_text())
        for name in ("first", "as-it-is")
    )
    assert [row["name"] for row in before] == [row["name"] for row in after]
    assert before != after
    decision = json.loads((first_stage / "as-it-is/decision.json").read_text())
    assert decision["view_scales"] == [1.0, 1.5]


def test_no_epochs_of_nothing_are_refused(first_stage, capsys):
    arguments = [f"--data={first_stage / 'data'}", f"--out={first_stage / 'nothing'}"]
    with pytest.raises(SystemExit):
        fit.main([*arguments, "--epochs", "0"])
    assert "--epochs 0 with --start-from" in capsys.readouterr().err


def test_a_run_starts_with_the_weights_of_the_other(first_stage, monkeypatch):
    monkeypatch.setattr(warm_start, "copy", _Copied())
    assert _go_on(first_stage, "none") == 0
    taken = warm_start.copy.taken
    first = _averaged(first_stage / "first/fold-1")
    assert all(torch.equal(taken[name], first[f"module.{name}"]) for name in taken)


class _Copied:
    """warm_start.copy that remembers what the network was given."""

    def __init__(self):
        self.real = warm_start.copy

    def __call__(self, network, other):
        self.real(network, other)
        self.taken = {name: value.clone() for name, value in network.state_dict().items()}


def test_a_run_that_saw_the_held_out_is_no_start(first_stage, capsys):
    assert _go_on(first_stage, "0") == 2
    assert "only what held out the same fold" in capsys.readouterr().err
    assert not (first_stage / "from-run-0/last.pt").exists()


def test_a_run_with_another_network_is_no_start(first_stage, capsys):
    (first_stage / "small.toml").write_text(
        (first_stage / "small.toml").read_text() + "width = 0.5\n"
    )
    assert _go_on(first_stage, "1") == 2
    assert "another network" in capsys.readouterr().err


def test_eight_bits_are_read_as_the_numbers_they_stand_for():
    shipped = Path(__file__).resolve().parent.parent / "artifacts"
    networks = []
    for name in ("model.onnx", "model.int8.onnx"):
        model = warm_start.read(shipped / name)
        networks.append(warm_start.network_like(model))
        warm_start.load(networks[-1], model, _batches())
        networks[-1].eval()
    image = torch.from_numpy(255.0 - phantom(192, 128)[0])[None, None].float() / 255
    with torch.no_grad():
        exact, rounded = (network(image) for network in networks)
    assert (rounded - exact).abs().mean() < 0.1 * exact.std()
