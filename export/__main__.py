"""Export a run: `python -m export --run runs/NAME --out artifacts/model.onnx`.

Writes the ONNX file, its .sha256, what the gate printed (.parity.md) and the folds (.folds.json).
Exit codes: 0 written, 1 the gate refused it, 2 bad input.
"""

import argparse
import csv
import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from export import onnx_file
from export.graph import PixelsToMask
from serve import __version__
from serve.phantom import phantom
from train.dataset import FOLDS
from train.evaluate import MISSED
from train.fit import Config
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
        "opset": str(onnx_file.OPSET),
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("artifacts/model.onnx"))
    parser.add_argument(
        "--threshold",
        type=float,
        help="probability above which a pixel is tumour; default: the one chosen on the patients "
        "the run held out",
    )
    arguments = parser.parse_args(argv)
    # What the exporter says of itself (deprecations, no torchvision) is no news to who exports.
    warnings.filterwarnings("ignore", module="torch|onnxscript|copyreg")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        network, config, folds = load_run(arguments.run)
        threshold = arguments.threshold or chosen_threshold(arguments.run)
        module = PixelsToMask(network, threshold).eval()
        metadata = describe(arguments.run, config, folds, module)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        model = onnx_file.to_onnx(module)
        onnx_file.stamp(model, metadata)
        rows = onnx_file.compare(model, module)
    except onnx_file.ExportError as error:
        print(f"error: {error}; nothing was written", file=sys.stderr)
        return 1
    table = onnx_file.parity_table(rows)
    print(table)
    if fault := onnx_file.fault(rows):
        print(f"error: {fault}; nothing was written", file=sys.stderr)
        return 1
    digest = onnx_file.write(model, arguments.out)
    facts = "".join(f"- {key}: {value}\n" for key, value in metadata.items())
    arguments.out.with_suffix(".parity.md").write_text(
        f"# torch against onnxruntime, pixel by pixel\n\n{table}\n- sha256: {digest}\n{facts}"
    )
    arguments.out.with_suffix(".folds.json").write_text(json.dumps(folds, indent=1) + "\n")
    size = arguments.out.stat().st_size / 2**20
    print(f"{arguments.out}: {size:.1f} MiB, sha256 {digest}\n{facts}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
