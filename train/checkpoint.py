"""What a finished run left behind, read again: its settings, folds and averaged network."""

import json
from pathlib import Path

import torch

from train.config import Config, stored
from train.old_network import MobileNetUNet, network_of

FILE = "last.pt"
"""The checkpoint in a run's folder."""
KEPT = "model.int8.onnx"
"""What artifacts/ keeps of a run, whose checkpoint may be gone."""


def read(run: Path) -> tuple[dict, Config, dict]:
    """A run's checkpoint, its settings and its folds.json, from the folder of train.fit.

    Raises ValueError where a file is missing.
    """
    try:
        state = torch.load(run / FILE, map_location="cpu", weights_only=True)
        folds = json.loads((run / "folds.json").read_text())
    except OSError as error:
        raise ValueError(
            f"{error.filename}: {error.strerror}; expected a folder that "
            "`python -m train.fit --out` wrote"
        ) from error
    return state, stored(state["config"]), folds


def finished(state: dict) -> bool:
    """Whether the run has used its budget up."""
    return stored(state["config"]).progress(state["epoch"], state["seconds"]) >= 1


def steps(state: dict) -> int:
    """How many steps the run has taken."""
    return int(state["average"]["n_averaged"])


def file_of(path: Path) -> Path:
    """What holds the network: in a folder its checkpoint, or else KEPT; any other path itself."""
    if not path.is_dir():
        return path
    return path / (KEPT if (path / KEPT).exists() and not (path / FILE).exists() else FILE)


def averaged_network(state: dict) -> MobileNetUNet:
    """The network of a checkpoint's averaged weights, in evaluation mode."""
    network = network_of(state["config"])
    prefix = "module."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state["average"].items() if k.startswith(prefix)}
    )
    return network.eval()
