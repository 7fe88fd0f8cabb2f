"""Static INT8 quantisation of an exported graph.

Activations are uint8, weights int8 per channel, in QDQ form (onnxruntime's documentation,
"Quantize ONNX models"). x86 CPUs without VNNI add two products in 16 bits, which two weights above
64 can overflow: so weights have 7 bits, as documented there, and all CPUs get the same sums.
The layer that gives the logits stays in float32: its rounding would move every outline.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.graph import INPUT
from train.dataset import Case
from train.operating_point import OperatingPoint
from tumour_segmenter.phantom import phantom

QUANTISED = ("Conv", "Add", "Concat", "Resize", "Clip")
FIRST_IN_FLOAT = 3
"""Convolutions of each view, the stem and the first block, which stay in float32: what the filters
of a pretrained encoder give differs widely in size, and 8 bits for the largest lose the others
(masks of 29 validation patients agree to a Dice of 0.995 with float32, in place of 0.977)."""
IMAGES = 48  # that ranges are measured on


class _Feeds(quantization.CalibrationDataReader):
    def __init__(self, images: Sequence[np.ndarray]):
        point = {name: np.array(of, np.float32) for name, of in vars(OperatingPoint()).items()}
        self._feeds = ({INPUT: pixels, **point} for pixels in images)

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


def depthwise(model: onnx.ModelProto) -> dict[str, list[dict]]:
    """Settings for the weights of depthwise convolutions: 8 bits. Their products are added in 32
    bits everywhere, and 7 bits cost most there (Dice with float32's masks 0.993, not 0.988)."""
    full = {"quant_type": quantization.QuantType.QInt8, "axis": 0, "reduce_range": False}
    return {
        node.input[1]: [full]
        for node in model.graph.node
        if any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
    }


def quantise(model: onnx.ModelProto, images: Sequence[np.ndarray]) -> onnx.ModelProto:
    """The same graph with INT8 convolutions; images are uint8 H×W grey, dark = hot."""
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / f"{i}.onnx" for i in range(3))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True, skip_optimization=True)
        quantization.quantize_static(
            prepared,
            quantised,
            _Feeds(images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,
            extra_options={"TensorQuantOverrides": depthwise(model)},
            nodes_to_exclude=kept_in_float(model),
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        return onnx.load(quantised)


def images(cases: Sequence[Case]) -> tuple[list[np.ndarray], str]:
    """Grey images to measure ranges on, chosen by a fixed seed, and what they are. cases: training
    images; without any, phantoms are taken."""
    if not cases:
        seeds = range(IMAGES // 2)
        return [phantom(seed=seed)[0] for seed in seeds], f"{len(seeds)} phantoms"
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(cases), min(IMAGES, len(cases)), replace=False)
    return [cases[i].grey for i in chosen], f"{len(chosen)} training images"
