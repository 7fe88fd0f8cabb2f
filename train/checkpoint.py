"""What a finished run left behind, read again: its settings, folds and averaged network."""

import json
from pathlib import Path

import torch

from train.config import Config
from train.network import MobileNetUNet

FILE = "last.pt"
"""The checkpoint in a run's folder."""


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
    return state, Config(**state["config"]), folds


def file_of(run: Path) -> Path:
    """The checkpoint in a run's folder; the path itself where it is no folder."""
    return run / FILE if run.is_dir() else run


def read_unseeing(run: Path, fold: int | None, facts: dict) -> dict:
    """The checkpoint of a run that never saw whom another one is to hold out.

    Those are the people of `fold`, by the folds that folds.json has (`facts`). Raises ValueError
    where the run may have seen one, or cannot be read.
    """
    state, config, folds = read(run)
    if fold is not None and (config.fold != fold or folds != facts):
        raise ValueError(
            f"{run}: was trained on other data or on people of fold {fold}, who are to be held "
            "out; only a run that held out the same fold may have a say"
        )
    return state


def averaged_network(state: dict) -> MobileNetUNet:
    """The network of a checkpoint's averaged weights, in evaluation mode."""
    config = Config(**state["config"])
    network = MobileNetUNet(config.width, config.full_resolution, context=config.context)
    prefix = "module."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state["average"].items() if k.startswith(prefix)}
    )
    return network.eval()
