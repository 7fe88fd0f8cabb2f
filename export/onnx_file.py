"""A PixelsToMask module -> one checked, simplified, stamped ONNX file.

The file is written only when it passed the gate: onnx.checker, then torch and onnxruntime on
phantoms of several sizes, compared in flipped mask pixels. A file that fails never replaces a
good one.
"""

import copy
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.graph import PixelsToMask
from export.joined import PREPARED, join
from serve.phantom import phantom
from serve.segmenter import keep_int8_exact
from train.files import replacing

OPSET = 20
INPUT, OUTPUT = "pixels", "mask"
GATE_SIZES = ((1, 1), (1, 400), (64, 64), (98, 131), (426, 400), (489, 400), (991, 400))
"""Height and width of the phantoms the gate compares on."""
MOST_FLIPPED = 1e-4
"""Share of flipped mask pixels the gate allows in each phantom (one pixel at least): rounding
right at the threshold."""


class ExportError(RuntimeError):
    """The network cannot be exported, or the exported file does not do what the network does."""


@dataclass(frozen=True)
class Parity:
    """What torch and onnxruntime said of one phantom: pixels of tumour, and pixels that differ."""

    height: int
    width: int
    tumour: int
    flipped: int

    @property
    def passed(self) -> bool:
        return self.flipped <= max(1, MOST_FLIPPED * self.height * self.width)


class _Part(nn.Module):
    """One method of a module, to be traced by itself."""

    def __init__(self, method: Callable):
        super().__init__()
        self.module, self.name = method.__self__, method.__name__

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        return getattr(self.module, self.name)(*tensors)


def _trace(method: Callable, inputs: dict[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """A method of PixelsToMask by torch.export. Height and width of images, the last dimensions of
    whatever is larger than one value, stay free.
    """
    free = torch.export.Dim.DYNAMIC
    shapes = [
        {i.ndim - 2: free, i.ndim - 1: free} if i.numel() > 1 else {} for i in inputs.values()
    ]
    return torch.onnx.export(
        _Part(method).eval(),
        tuple(inputs.values()),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=(tuple(shapes),),
        input_names=list(inputs),
        output_names=list(outputs),
        verbose=False,
    ).model_proto


def _folded(module: PixelsToMask) -> PixelsToMask:
    """A copy with each batch norm folded into the convolution before it.

    onnxsim could do that as well, but not without a copy of the weights for each view.
    """
    module = copy.deepcopy(module).eval()
    for parent in module.modules():
        for (name, first), (behind, second) in itertools.pairwise(parent.named_children()):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, behind, nn.Identity())
    return module


def to_onnx(module: PixelsToMask) -> onnx.ModelProto:
    """Trace, join, simplify, check.

    Raises ExportError.
    """
    module = _folded(module)
    pixels = torch.from_numpy(phantom(97, 131)[0])
    with torch.no_grad():
        body, on_head, *_ = module.prepare(pixels)
    model = join(
        _trace(module.prepare, {INPUT: pixels}, PREPARED),
        _trace(module.logits, {"cut": body}, ["inside"]),
        _trace(module.decide, {"logits": body, "on_head": on_head}, [OUTPUT]),
    )
    model, simplified = onnxsim.simplify(model)
    if not simplified:
        raise ExportError("the simplified graph does not compute what the exported one does")
    # The exporter leaves its own bookkeeping on every node; the file is for others to read.
    for value in (*model.graph.node, *model.graph.input, *model.graph.output, model.graph):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for dimension, name in zip(
            value.type.tensor_type.shape.dim, ("height", "width"), strict=True
        ):
            dimension.Clear()
            dimension.dim_param = name
    onnx.checker.check_model(model, full_check=True)
    return model


def stamp(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Replace the file's metadata_props."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """An onnxruntime session of the graph, on the CPU."""
    options = onnxruntime.SessionOptions()
    keep_int8_exact(options)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def compare(model: onnx.ModelProto, module: PixelsToMask) -> list[Parity]:
    """Run both on a phantom of each size in GATE_SIZES."""
    session = open_session(model)
    rows = []
    for height, width in GATE_SIZES:
        pixels, _ = phantom(height, width)
        (mask,) = session.run([OUTPUT], {INPUT: pixels})
        with torch.no_grad():
            expected = module(torch.from_numpy(pixels)).numpy()
        if mask.shape != expected.shape or mask.dtype != np.uint8:
            raise ExportError(
                f"{height}×{width}: the exported mask is {mask.dtype} {mask.shape}, "
                f"expected uint8 {expected.shape}"
            )
        flipped = int((mask != expected).sum())
        rows.append(Parity(height, width, int((expected > 0).sum()), flipped))
    return rows


def fault(rows: list[Parity]) -> str | None:
    """Why the gate stays shut; None where it opens."""
    if not all(row.passed for row in rows):
        return "torch and onnxruntime disagree"
    if not any(row.tumour for row in rows):
        return "the network finds no tumour in any phantom, so that nothing could be compared"
    return None


def parity_table(rows: list[Parity]) -> str:
    """A Markdown table of what the gate found."""
    lines = [
        "| height | width | tumour pixels | flipped pixels | |",
        "|---:|---:|---:|---:|---|",
        *(
            f"| {r.height} | {r.width} | {r.tumour} | {r.flipped} | "
            f"{'passed' if r.passed else 'FAILED'} |"
            for r in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def write(model: onnx.ModelProto, out: Path) -> str:
    """Write the file and its checksum beside it, each renamed into place; return the SHA-256."""
    content = model.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, data in (
        (out, content),
        (out.with_name(out.name + ".sha256"), f"{digest}  {out.name}\n".encode()),
    ):
        with replacing(path) as partial:
            partial.write_bytes(data)
    return digest
