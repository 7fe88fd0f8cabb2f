"""What a finished run of train.fit left behind, and what its artifact says about itself."""

import csv
import json
from pathlib import Path

import numpy as np
import torch

from export.graph import PixelsToMask
from export.onnx_file import OPSET
from serve import __version__
from serve.phantom import phantom
from train.config import Config
from train.dataset import FOLDS
from train.evaluate import MISSED
from train.network import MobileNetUNet
from train.provenance import source_commit


def averaged_network(state: dict) -> MobileNetUNet:
    """The network of a checkpoint's averaged weights, in evaluation mode."""
    network = MobileNetUNet()
    prefix = "module."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state["average"].items() if k.startswith(prefix)}
    )
    return network.eval()


def load_run(run: Path) -> tuple[MobileNetUNet, Config, dict]:
    """The averaged network of a finished run, its settings and its folds.

    Raises ValueError where a file of the run is missing or the run has not been finished.
    """
    try:
        state = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
        folds = json.loads((run / "folds.json").read_text())
    except OSError as error:
        raise ValueError(
            f"{error.filename}: {error.strerror}; expected a folder that "
            "`python -m train.fit --out` wrote"
        ) from error
    return averaged_network(state), Config(**state["config"]), folds


def held_out_dice(run: Path) -> list[float]:
    """Dice of each patient the run held out, in the order of held_out.csv."""
    path = run / "held_out.csv"
    try:
        with path.open(newline="") as file:
            return [float(row["dice"]) for row in csv.DictReader(file) if row["dice"]]
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}; let the run finish first: "
            f"python -m train.fit --resume --out {run}"
        ) from error


def chosen_threshold(run: Path) -> float:
    """The threshold that the run chose on the patients it held out."""
    path = run / "threshold.json"
    try:
        return json.loads(path.read_text())["threshold"]
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}; let the run finish first (python -m train.fit --resume "
            f"--out {run}), or give --threshold if it held nobody out"
        ) from error


def describe(run: Path, config: Config, folds: dict, module: PixelsToMask) -> dict[str, str]:
    """The metadata_props: what made the artifact and what it was measured to be worth."""
    metadata = {
        "name": "mobilenetv2-unet",
        "version": __version__,
        "source_commit": config.source_commit,
        "export_commit": source_commit("export", "train"),
        "data_fingerprint": folds["data"],
        "training": json.dumps(
            {k: v for k, v in vars(config).items() if k not in ("data", "source_commit")}
        ),
        "parameters": str(sum(p.numel() for p in module.parameters())),
        "threshold": f"{module.threshold:g}",
        "opset": str(OPSET),
    }
    if config.fold is None:
        metadata["folds"] = f"none of {FOLDS} held out"
        metadata["dice"] = "not measured: trained on everyone"
    else:
        dice = np.array(held_out_dice(run))
        metadata["folds"] = f"fold {config.fold} of {FOLDS} held out, seed {folds['seed']}"
        metadata["dice"] = (
            f"mean {dice.mean():.4f}, median {np.median(dice):.4f}, below {MISSED}: "
            f"{(dice < MISSED).sum()} of {len(dice)} held-out patients"
        )
    pixels, _ = phantom()
    with torch.no_grad():
        tumour = int((module(torch.from_numpy(pixels)) > 0).sum())
    metadata["canary_tumour_pixels"] = str(tumour)
    return metadata
