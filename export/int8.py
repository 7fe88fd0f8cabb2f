"""Static 8-bit quantisation of an exported graph, calibrated on real training images.

Activations are uint8, weights int8 per channel, in QDQ form (onnxruntime's documentation,
"Quantize ONNX models"). The layer that gives the logits stays in float32: its rounding would move
every outline.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.onnx_file import open_session
from serve import contract
from train.dataset import Case

QUANTISED = ("Conv", "Add", "Concat", "Resize", "Clip")
FIRST_IN_FLOAT = 3
"""Convolutions of each view, the stem and the first block, which stay in float32: what the filters
of a pre-trained encoder give differs widely in size, and 8 bits for the largest lose the others
(masks of 29 patients held out agree to 0.995 with float32, in place of 0.977)."""
CALIBRATION_IMAGES = 48
MOST_LOST = 0.005
"""Mean Dice that the 8-bit graph may lose against float32."""
LEAST_AGREEMENT = 0.97
"""Mean Dice between the masks of both graphs that it must keep."""


class _Images(CalibrationDataReader):
    def __init__(self, name: str, images: Iterable[np.ndarray]):
        self._feeds: Iterator[dict] = ({name: pixels} for pixels in images)

    def get_next(self) -> dict | None:
        return next(self._feeds, None)


def kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes up to the first FIRST_IN_FLOAT convolutions of each view, and of the last
    convolution of each with all that follows: it decides what is tumour."""
    nodes = model.graph.node
    deep: dict[str, int] = {}
    for node in nodes:
        convolutions = max((deep.get(name, 0) for name in node.input), default=0)
        deep |= dict.fromkeys(node.output, convolutions + (node.op_type == "Conv"))
    before: set[str] = set()
    for node in reversed(nodes):
        if before.intersection(node.output) or node.op_type == "Conv":
            before.update(node.input)
    first = [node.name for node in nodes if deep[node.output[0]] <= FIRST_IN_FLOAT]
    last = [node.name for node in nodes if not before.intersection(node.output)]
    return [*first, *last]


def quantise(model: onnx.ModelProto, images: Iterable[np.ndarray]) -> onnx.ModelProto:
    """The same graph with 8-bit convolutions; images are uint8 H×W grey, dark = hot."""
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / f"{i}.onnx" for i in range(3))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True, skip_optimization=True)
        quantize_static(
            prepared,
            quantised,
            _Images(model.graph.input[0].name, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept_in_float(model),
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(quantised)


def calibration_images(cases: list[Case], held_out: set[str]) -> list[np.ndarray]:
    """Grey images of CALIBRATION_IMAGES people the run was trained on, chosen by a fixed seed."""
    training = [case for case in cases if case.name not in held_out]
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(training), min(CALIBRATION_IMAGES, len(training)), replace=False)
    return [255 - training[i].uptake for i in chosen]


@dataclass(frozen=True)
class Agreement:
    """One patient: Dice of both graphs with the truth, and of their masks with each other."""

    name: str
    float32: float
    int8: float
    each_other: float


def compare(
    model: onnx.ModelProto, quantised: onnx.ModelProto, patients: list[Case]
) -> list[Agreement]:
    """Run both graphs on each patient."""
    sessions = [open_session(m) for m in (model, quantised)]
    rows = []
    for case in patients:
        feed = {model.graph.input[0].name: 255 - case.uptake}
        first, second = (session.run(None, feed)[0] for session in sessions)
        rows.append(
            Agreement(
                case.name,
                contract.dice(case.truth, first),
                contract.dice(case.truth, second),
                contract.dice(first, second),
            )
        )
    return rows


def tumour_pixels(model: onnx.ModelProto, pixels: np.ndarray) -> int:
    """How many pixels of a grey image, uint8 H×W, the graph marks."""
    (mask,) = open_session(model).run(None, {model.graph.input[0].name: pixels})
    return int(np.count_nonzero(mask))


def means(rows: list[Agreement]) -> tuple[float, float, float]:
    """Mean Dice of float32, of int8, and of their masks with each other."""
    return tuple(np.mean([[r.float32, r.int8, r.each_other] for r in rows], axis=0))


def agreement_table(rows: list[Agreement]) -> str:
    """A Markdown table: the means, and the patient whose masks differ most."""
    float32, eight, each_other = means(rows)
    worst = min(rows, key=lambda row: row.each_other)
    return "\n".join(
        [
            "| patients | Dice float32 | Dice int8 | Dice of both masks | least of one patient |",
            "|---:|---:|---:|---:|---:|",
            f"| {len(rows)} | {float32:.4f} | {eight:.4f} | {each_other:.4f} "
            f"| {worst.each_other:.4f} |\n",
        ]
    )


def fault(rows: list[Agreement]) -> str | None:
    """Why the 8-bit graph must not be shipped; None where it may."""
    float32, eight, each_other = means(rows)
    if float32 - eight > MOST_LOST:
        return f"int8 loses {float32 - eight:.4f} of Dice, at most {MOST_LOST} is allowed"
    if each_other < LEAST_AGREEMENT:
        return f"the masks of float32 and int8 agree to {each_other:.4f} only"
    return None
