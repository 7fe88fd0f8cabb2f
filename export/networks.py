"""The networks whose speed is compared: the shipped one, trained variants, and untrained ones."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch
from tqdm import tqdm

from export import int8, onnx_file, shipped
from export.graph import PixelsToMask
from export.run import load_decision, load_run
from serve.phantom import phantom
from train import dataset, oof
from train.calibration import Calibration
from train.decision import Decision, nested_dice, standard_error
from train.evaluate import Segmentation
from train.files import read_csv
from train.old_network import MobileNetUNet

CALIBRATION_PHANTOMS = 6


@dataclass(frozen=True)
class Network:
    """A variant: its module, its ONNX file for each engine and, where trained, Dice for each."""

    module: PixelsToMask
    files: dict[str, onnx.ModelProto]
    dice: dict[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    patients: int = 0
    epochs: int = 0


def shipped_module(model: onnx.ModelProto) -> PixelsToMask:
    """The torch module that an exported file was made from."""
    return PixelsToMask(shipped.segmentation_of(model), shipped.decision_of(model)).eval()


def trained(runs: list[Path], cases: list[dataset.Case]) -> dict[tuple[float, bool], Network]:
    """The networks of finished runs, by width and whether at full resolution.

    Dice is that of the patients a run held out, each at the decision best for the others, and in 8
    bits that plus what 8 bits change at the run's decision. Raises ValueError where a run is not
    finished, held nobody out or had other data.
    """
    found = {}
    for run in tqdm(runs, desc="trained", unit="run", disable=None):
        segmentation, config, folds = load_run(run)
        if config.fold is None or dataset.fingerprint(cases) != folds["data"]:
            raise ValueError(f"{run}: expected a run on these data that held a fold out")
        held_out = {name for name, fold in folds["folds"].items() if fold == config.fold}
        decision, *_ = load_decision(run / "decision.json", segmentation.view_scales)
        module = PixelsToMask(segmentation, decision).eval()
        model = onnx_file.to_onnx(module)
        quantised = int8.quantise(model, int8.calibration_images(cases, held_out))
        judged = [case for case in cases if case.is_patient and case.name in held_out]
        before, after, _ = int8.means(int8.compare(model, quantised, judged))
        scores = oof.scores(json.loads((run / "held_out.json").read_text()))
        nested = nested_dice(scores)
        dice = float(nested.mean())
        found[config.width, config.full_resolution] = Network(
            module,
            {"float32": model, "int8": quantised},
            {"float32": dice, "int8": dice + float(after - before)},
            standard_error(nested),
            len(judged),
            len(read_csv(run / "log.csv")),
        )
    return found


def untrained(width: float, full_resolution: bool, like: Segmentation) -> Network:
    """A network of random weights in place of the one of `like`: as fast as a trained one."""
    torch.manual_seed(0)
    network = MobileNetUNet(width, full_resolution)
    segmentation = Segmentation(network, like.upright, like.view_scales, like.by_slices)
    module = PixelsToMask(segmentation, Decision(Calibration(0.5), 0.5)).eval()
    model = onnx_file.to_onnx(module)
    images = [phantom(489, 400, seed=seed)[0] for seed in range(CALIBRATION_PHANTOMS)]
    return Network(module, {"float32": model, "int8": int8.quantise(model, images)})
