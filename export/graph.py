"""The whole function, grey pixels in, mask and probability out: one module and one ONNX graph.

How wide the body is depends on the pixels, and torch.export can trace no shape that does. So the
steps before and after the cut are traced by themselves and joined. Of the networks, which differ in
their weights only, one is traced, which takes most of the time.
"""

import copy
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import onnxsim
import torch
import torch.nn.functional as F
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.network import UNet
from train.operating_point import Calibration, calibrated, mask
from train.segmentation import AIR, Segmentation, full_resolution
from tumour_segmenter.phantom import phantom

OPSET = 20
INPUT, OUTPUTS = "pixels", ("mask", "probability")
MINIMUM, FACTOR = "minimum_probability", "threshold_factor"
PREPARED = ("body", "flipped", "first", "last", "behind")


class ExportError(RuntimeError):
    """The network cannot be exported, or the exported file does not do what the network does."""


class PixelsToMask(nn.Module):
    """Everything between the PNG that comes in and the PNGs that go out. point: the defaults of an
    operating point, minimum_probability and threshold_factor."""

    def __init__(
        self, segmentation: Segmentation, calibration: Calibration, point: dict[str, float]
    ) -> None:
        super().__init__()
        self.segmentation, self.calibration = segmentation, calibration
        for name in (MINIMUM, FACTOR):
            self.register_buffer(name, torch.tensor(point[name], dtype=torch.float32))

    def prepare(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """uint8 H×W grey, dark = hot -> what Segmentation.prepare gives, and how many columns are
        behind the body (int64 [1])."""
        uptake = ((255.0 - pixels.float()) / 255.0)[None, None]
        body, flipped, first, last = self.segmentation.prepare(uptake)
        return body, flipped, first, last, pixels.shape[1] - last

    def decide(
        self, logits: Tensor, flipped: Tensor, minimum: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """1×1×H×W logits -> mask, uint8 H×W, 255 = tumour, else 0, and the calibrated probability p
        of each pixel, uint8 H×W, 255 p."""
        logits = self.segmentation.upright.turn(logits, flipped)[0, 0]
        drawn = mask(logits, self.calibration, minimum, factor).to(torch.uint8) * 255
        probability = calibrated(logits, self.calibration)
        return drawn, torch.round(255 * probability).to(torch.uint8)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 H×W grey, dark = hot -> what decide gives at the operating point."""
        body, flipped, first, last, behind = self.prepare(pixels)
        logits = self.segmentation.logits(body[..., int(first) : int(last)])
        logits = F.pad(logits, (int(first), int(behind)), value=AIR)
        return self.decide(logits, flipped, self.minimum_probability, self.threshold_factor)


class _Part(nn.Module):
    """What a function does with a module, to be traced by itself."""

    def __init__(self, module: nn.Module, function: Callable):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(self.module, *tensors)


def _trace(
    module: nn.Module, function: Callable, inputs: dict[str, Tensor], outputs: Sequence[str]
) -> ModelProto:
    """By torch.export. Height and width of images, the last dimensions of whatever is larger than
    one value, stay free."""
    free = torch.export.Dim.DYNAMIC
    shapes = [
        {i.ndim - 2: free, i.ndim - 1: free} if i.numel() > 1 else {} for i in inputs.values()
    ]
    return torch.onnx.export(
        _Part(module, function).eval(),
        tuple(inputs.values()),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=(tuple(shapes),),
        input_names=list(inputs),
        output_names=list(outputs),
        verbose=False,
    ).model_proto


def _folded(network: UNet) -> UNet:
    """A copy with each batch norm folded into the convolution before it. onnxsim could do that as
    well, but not without a copy of the weights for image and mirror image."""
    network = copy.deepcopy(network).eval()
    for parent in network.modules():
        for (name, first), (behind, second) in itertools.pairwise(parent.named_children()):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, behind, nn.Identity())
    return network


def _with_weights(traced: ModelProto, network: UNet) -> ModelProto:
    """The trace of another network with the weights of this one, both folded; or ExportError."""
    own = ModelProto()
    own.CopyFrom(traced)
    wanted = {f"module.{name}": value for name, value in network.named_parameters()}
    for tensor in own.graph.initializer:
        if tensor.name in wanted:
            value = wanted.pop(tensor.name).detach().numpy()
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    if wanted:
        raise ExportError(f"the traced network has no {min(wanted)}; use requirements-train.txt")
    return own


class Graph:
    """A graph that is put together of traced parts."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """One node; returns the name of its output."""
        node = helper.make_node(kind, inputs, [output], f"{kind}/{output}", **attributes)
        self.nodes.append(node)
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        self.tensors[name] = numpy_helper.from_array(value, name)
        return name

    def part(
        self, traced: ModelProto, prefix: str, inputs: dict[str, str], weights: str = ""
    ) -> list[str]:
        """A copy of a traced part, whose initializers are those of the prefix `weights` where that
        is given; inputs: what each of its inputs is. Returns the names of its outputs."""
        names = dict(inputs)
        for tensor in traced.graph.initializer:
            names[tensor.name] = f"{weights or prefix}/{tensor.name}"
            if names[tensor.name] not in self.tensors:
                self.tensors[names[tensor.name]] = copied = TensorProto()
                copied.CopyFrom(tensor)
                copied.name = names[tensor.name]
        for i, node in enumerate(traced.graph.node):
            self.nodes.append(NodeProto())
            self.nodes[-1].CopyFrom(node)
            self.nodes[-1].name = f"{prefix}/{node.op_type}_{i}"
            for of in (self.nodes[-1].input, self.nodes[-1].output):
                of[:] = [name and names.get(name, f"{prefix}/{name}") for name in of]
        return [names.get(value.name, f"{prefix}/{value.name}") for value in traced.graph.output]

    def mirrored(self, image: str, output: str) -> str:
        """1×1×H×W, its columns in reverse."""
        ends = [
            self.constant(f"mirror/{name}", np.array([value]))
            for name, value in (("starts", -1), ("ends", -(2**63)), ("axes", 3), ("steps", -1))
        ]
        return self.add("Slice", [image, *ends], output)


def _joined(module: PixelsToMask) -> ModelProto:
    """PixelsToMask.forward: prepare, cut, networks on their views, merge, pad, decide."""
    pixels = torch.from_numpy(phantom(97, 131)[0])
    with torch.no_grad():
        body, flipped, *_ = module.prepare(pixels)
    networks = [_folded(network) for network in module.segmentation.networks]
    prepare = _trace(module, PixelsToMask.prepare, {INPUT: pixels}, PREPARED)
    # With weights of its own: equal ones, as biases of zeros are, would be traced as one.
    template = copy.deepcopy(networks[0])
    generator = torch.Generator().manual_seed(0)
    for parameter in template.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    view = _trace(template, full_resolution, {"body": body}, ["logits"])
    # A tensor given twice would be traced as one input.
    given = {"total": body.clone(), "body": body}
    merge = _trace(module.segmentation, Segmentation.merge, given, ["merged"])
    defaults = {MINIMUM: module.minimum_probability, FACTOR: module.threshold_factor}
    given = {"logits": body, "flipped": flipped, **defaults}
    decide = _trace(module, PixelsToMask.decide, given, OUTPUTS)

    graph = Graph()
    image, turned, first, last, behind = graph.part(prepare, "prepare", {INPUT: INPUT})
    column = graph.constant("column_axis", np.array([3]))
    cut = graph.add("Slice", [image, first, last, column], "cut")
    mirror = graph.mirrored(cut, "mirrored")
    own = [_with_weights(view, network) for network in networks]
    passes = []
    for i, mirrored in module.segmentation.passes:
        name = f"network-{i}/{'mirror' if mirrored else 'image'}"
        given = {"body": mirror if mirrored else cut}
        (seen,) = graph.part(own[i], name, given, f"network-{i}")
        passes.append(graph.mirrored(seen, f"{name}/mirrored") if mirrored else seen)
    total, *others = passes
    for i, one in enumerate(others):
        total = graph.add("Add", [total, one], f"total-{i}")
    (merged,) = graph.part(merge, "merge", {"total": total, "body": cut})
    nothing = graph.constant("nothing", np.zeros(3, np.int64))
    beside = graph.add("Concat", [nothing, first, nothing, behind], "beside", axis=0)
    air = graph.constant("air", np.array(AIR, np.float32))
    padded = graph.add("Pad", [merged, beside, air], "padded")
    inputs = {"logits": padded, "flipped": turned, **{name: name for name in defaults}}
    for found, name in zip(graph.part(decide, "decide", inputs), OUTPUTS, strict=True):
        graph.add("Identity", [found], name)
    inputs = [*prepare.graph.input, *(v for v in decide.graph.input if v.name in defaults)]
    tensors = list(graph.tensors.values())
    whole = helper.make_graph(graph.nodes, "pixels_to_mask", inputs, decide.graph.output, tensors)
    versions = {"opset_imports": prepare.opset_import, "ir_version": prepare.ir_version}
    return helper.make_model(whole, **versions)


def to_onnx(module: PixelsToMask) -> ModelProto:
    """Trace, join, simplify; the operating point has no defaults yet. Raises ExportError."""
    model, simplified = onnxsim.simplify(_joined(module))
    if not simplified:
        raise ExportError("the simplified graph does not compute what the traced one does")
    # The exporter leaves its own bookkeeping on every node; the file is for others to read.
    for value in (*model.graph.node, *model.graph.input, *model.graph.output, model.graph):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    for value in (model.graph.input[0], *model.graph.output):
        value.type.CopyFrom(helper.make_tensor_type_proto(2, ("height", "width")))
    return model


def finish(model: ModelProto, point: dict[str, float], metadata: dict[str, str]) -> ModelProto:
    """A copy with the defaults of an operating point, and with the metadata; checked."""
    finished = ModelProto()
    finished.CopyFrom(model)
    for name in (MINIMUM, FACTOR):
        value = np.array(point[name], np.float32)
        finished.graph.initializer.append(numpy_helper.from_array(value, name))
    del finished.metadata_props[:]
    helper.set_model_props(finished, metadata)
    checker.check_model(finished, full_check=True)
    return finished
