"""Putting an ONNX graph together."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


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
