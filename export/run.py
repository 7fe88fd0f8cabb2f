"""What a finished run of train.fit left behind, and what its artifact says about itself."""

import json
from pathlib import Path

import torch

from export.graph import PixelsToMask
from export.onnx_file import OPSET
from serve import __version__
from serve.phantom import phantom
from train import checkpoint, oof
from train.canonical import Upright
from train.config import PATHS, Config
from train.dataset import FOLDS
from train.decision import Decision
from train.evaluate import Segmentation
from train.provenance import source_commit

NAMES = {
    "mobilenet_v2": "mobilenetv2-unet",
    "efficientnet_lite0": "efficientnet-lite0-unet",
    "efficientnet_lite2": "efficientnet-lite2-unet",
}
"""Of artifacts, by their encoder."""


def load_run(run: Path) -> tuple[Segmentation, Config, dict]:
    """The segmentation of a finished run, its settings and its folds.

    Raises ValueError where a file of the run is missing or the run has not been finished.
    """
    state, config, folds = checkpoint.read(run)
    if not checkpoint.finished(state):
        raise ValueError(
            f"{run}: the run was interrupted; let it finish first "
            f"(python -m train.fit --resume --out {run})"
        )
    try:
        upright = json.loads((run / "upright.json").read_text())
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}; let the run finish first") from error
    network = checkpoint.averaged_network(state)
    segmentation = Segmentation(network, Upright(upright), config.view_scales, config.by_slices)
    return segmentation.eval(), config, folds


def load_decision(
    path: Path, own_scales: tuple[float, ...]
) -> tuple[Decision, tuple[float, ...], str]:
    """What is tumour where images are seen at which scales, and how good that was measured to be.

    own_scales: those of the run or file that is decided; before version 0.6.0 a decision said none.
    Raises ValueError.
    """
    try:
        content = json.loads(path.read_text())
        view_scales = tuple(content.get("view_scales", own_scales))
        return oof.read_decision(content), view_scales, content["measured"]
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}; let the run finish first (python -m train.fit --resume), "
            "or give --decision with the file of a run that held patients out"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected JSON with calibration, least_probability and measured ({error})"
        ) from error


def facts_of(config: Config, folds: dict) -> dict[str, str]:
    """What the artifact says of the run that it comes from."""
    alone = config.fold is None
    return {
        "name": NAMES[config.encoder],
        "source_commit": config.source_commit,
        "data_fingerprint": folds["data"],
        "training": json.dumps(
            {k: v for k, v in vars(config).items() if k not in {*PATHS, "source_commit"}}
        ),
        "folds": f"none of {FOLDS} held out"
        if alone
        else f"fold {config.fold} of {FOLDS} held out, seed {folds['seed']}",
    }


def describe(
    facts: dict[str, str], fold: int | None, module: PixelsToMask, measured: str
) -> dict[str, str]:
    """The metadata_props: what made the artifact and what it was measured to be worth.

    facts: of the run; fold: that it held out.
    """
    pixels, _ = phantom()
    with torch.no_grad():
        tumour = int((module(torch.from_numpy(pixels)) > 0).sum())
    return facts | {
        "version": __version__,
        "export_commit": source_commit("export", "train"),
        "parameters": str(sum(p.numel() for p in module.parameters())),
        "calibration": json.dumps(vars(module.decision.setting)),
        "least_probability": f"{module.decision.least_probability:g}",
        "view_scales": json.dumps(module.segmentation.view_scales),
        "opset": str(OPSET),
        "dice": f"of runs that held patients out: {measured}" if fold is None else measured,
        "canary_tumour_pixels": str(tumour),
    }
