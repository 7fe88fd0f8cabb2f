"""The whole function, grey pixels in, mask and probability out: one module and one ONNX graph."""

import copy
import itertools
from dataclasses import fields

import numpy as np
import onnxsim
import torch
from onnx import ModelProto, checker, helper, numpy_helper
from onnxscript import opset20 as op
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.network import STRIDE
from train.operating_point import Calibration, OperatingPoint, calibrated, mask
from train.segmentation import Segmentation
from tumour_segmenter.phantom import phantom

OPSET = 20
INPUT, OUTPUTS = "pixels", ("mask", "probability")
POINT = tuple(field.name for field in fields(OperatingPoint))


class ExportError(RuntimeError):
    """The network cannot be exported, or the exported file does not do what the network does."""


class PixelsToMask(nn.Module):
    """Everything between the PNG that comes in and the PNGs that go out."""

    def __init__(self, segmentation: Segmentation, calibration: Calibration) -> None:
        super().__init__()
        self.segmentation, self.calibration = segmentation, calibration

    def forward(self, pixels: Tensor, minimum: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 H×W grey, dark = hot, and the two numbers of an operating point, float32 scalars ->
        mask, uint8 H×W, 255 = tumour, else 0, and the calibrated probability p of each pixel,
        uint8 H×W, 255 p."""
        logits = self.segmentation((255 - pixels)[None, None])[0, 0]
        drawn = mask(logits, self.calibration, minimum, factor).to(torch.uint8) * 255
        probability = calibrated(logits, self.calibration)
        return drawn, torch.round(255 * probability).to(torch.uint8)

    @torch.no_grad()
    def of_image(self, pixels: np.ndarray, point: OperatingPoint) -> list[np.ndarray]:
        """The same of arrays."""
        numbers = (torch.tensor(of, dtype=torch.float32) for of in vars(point).values())
        return [output.numpy() for output in self(torch.from_numpy(pixels), *numbers)]


def _folded(module: PixelsToMask) -> PixelsToMask:
    """A copy with each batch norm folded into the convolution before it. onnxsim could do that as
    well, but not without a copy of the weights for image and mirror image. ReLU6 becomes the same
    under the name of a node of ONNX: torch takes half of the export to write it in others."""
    module = copy.deepcopy(module).eval()
    for parent in module.modules():
        for (name, first), (behind, second) in itertools.pairwise(parent.named_children()):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, behind, nn.Identity())
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, nn.Hardtanh(0.0, 6.0))
    return module


def _to_stride(images):
    """train.segmentation.to_stride in ONNX."""
    behind = op.Mod(op.Neg(op.Shape(images, start=2)), op.Constant(value_ints=[STRIDE] * 2))
    before = op.Constant(value_ints=[0] * 6)
    return op.Pad(images, op.Concat(before, behind, axis=0))


def to_onnx(module: PixelsToMask) -> ModelProto:
    """Trace and simplify; the operating point has no defaults yet. Raises ExportError."""
    pixels = torch.from_numpy(phantom(97, 131)[0])
    numbers = tuple(torch.tensor(of, dtype=torch.float32) for of in (0.5, 1.0))
    free = torch.export.Dim.DYNAMIC
    traced = torch.onnx.export(
        _folded(module),
        (pixels, *numbers),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=({0: free, 1: free}, {}, {}),
        input_names=[INPUT, *POINT],
        output_names=list(OUTPUTS),
        custom_translation_table={torch.ops.tumour_segmenter.to_stride.default: _to_stride},
        verbose=False,
    ).model_proto
    model, simplified = onnxsim.simplify(traced)
    if not simplified:
        raise ExportError("the simplified graph does not compute what the traced one does")
    # The exporter leaves its own bookkeeping on every node; the file is for others to read.
    for value in (*model.graph.node, *model.graph.input, *model.graph.output, model.graph):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    for value in (model.graph.input[0], *model.graph.output):
        value.type.CopyFrom(helper.make_tensor_type_proto(2, ("height", "width")))
    return model


def finish(model: ModelProto, point: OperatingPoint, metadata: dict[str, str]) -> ModelProto:
    """A copy with the defaults of an operating point, and with the metadata; checked."""
    finished = ModelProto()
    finished.CopyFrom(model)
    for name, value in vars(point).items():
        tensor = numpy_helper.from_array(np.array(value, np.float32), name)
        finished.graph.initializer.append(tensor)
    del finished.metadata_props[:]
    helper.set_model_props(finished, metadata)
    checker.check_model(finished, full_check=True)
    return finished
