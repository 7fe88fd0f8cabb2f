"""An exported file read again: what it was made from, in torch."""

import json
from pathlib import Path

import onnx
import torch

from train import dataset, oof, unseen, warm_start
from train.canonical import Upright
from train.config import Config
from train.decision import Decision
from train.evaluate import Segmentation

OF_THE_RUN = ("name", "source_commit", "data_fingerprint", "training", "folds")
INT8_SUFFIX = "-int8"
"""Of the name of an 8-bit twin."""


def facts_of_run(model: onnx.ModelProto) -> dict[str, str]:
    """What the file says of the run that it comes from."""
    facts = warm_start.facts(model)
    name = facts["name"].removesuffix(INT8_SUFFIX)
    return {key: facts[key] for key in OF_THE_RUN} | {"name": name}


def segmentation_of(model: onnx.ModelProto) -> Segmentation:
    """The network and all around it, in evaluation mode; ValueError where it holds another one."""
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    upright = next((v for k, v in weights.items() if k.endswith("upright.weights")), None)
    if upright is None:
        raise ValueError("the model holds no weights that tell which way up a body is")
    network = warm_start.network_like(model)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(2, 1, 256, 256, generator=generator)]
    warm_start.load(network, model, batches)
    by_slices = warm_start.training_of(model).get("by_slices", Config.by_slices)
    view_scales = warm_start.view_scales_of(model)
    return Segmentation(network, Upright(upright.tolist()), view_scales, by_slices).eval()


def decision_of(model: onnx.ModelProto) -> Decision:
    facts = warm_start.facts(model)
    return oof.read_decision(facts | {"calibration": json.loads(facts["calibration"])})


def folds_of(path: Path, cases: list[dataset.Case]) -> tuple[dict, int | None]:
    """As in folds.json: whom the file's training held out, and which fold that was.

    Raises ValueError where these are not the people it was trained on.
    """
    folds, fold = unseen.told_by(path)
    if folds["data"] != dataset.fingerprint(cases):
        raise ValueError("these are not the data that the model was trained on")
    if "folds" not in folds:  # none beside the file
        folds |= {"folds": dataset.folds(cases, folds["seed"])}
    return folds, fold
