"""The three traced parts of PixelsToMask -> one graph, the body cut out between the first two."""

import numpy as np
from onnx import ModelProto, compose, helper, numpy_helper

from train.evaluate import AIR

PREPARED = ("body", "on_head", "first", "last", "behind")
"""Outputs of the first part, in order."""


def join(prepare: ModelProto, logits: ModelProto, decide: ModelProto) -> ModelProto:
    """As PixelsToMask.forward: prepare, cut, logits, pad, decide.

    Inputs and outputs of the parts: image -> PREPARED; cut -> inside; logits, on_head -> mask.
    """
    parts = [
        compose.add_prefix(part, f"{name}/").graph
        for name, part in (("prepare", prepare), ("logits", logits), ("decide", decide))
    ]
    body, on_head, first, last, behind = (f"prepare/{name}" for name in PREPARED)
    constants = {
        "join/column_axis": np.array([3]),
        "join/nothing": np.zeros(3, np.int64),
        "join/air": np.array(AIR, np.float32),
    }
    cut = helper.make_node("Slice", [body, first, last, "join/column_axis"], ["logits/cut"])
    beside = helper.make_node(
        "Concat", ["join/nothing", first, "join/nothing", behind], ["join/beside"], axis=0
    )
    pad = helper.make_node("Pad", ["logits/inside", "join/beside", "join/air"], ["decide/logits"])
    turn = helper.make_node("Identity", [on_head], ["decide/on_head"])
    nodes = [*parts[0].node, cut, *parts[1].node, beside, pad, turn, *parts[2].node]
    # What goes in and comes out is called as it was.
    nodes.insert(
        0, helper.make_node("Identity", [prepare.graph.input[0].name], [parts[0].input[0].name])
    )
    nodes.append(
        helper.make_node("Identity", [parts[2].output[0].name], [decide.graph.output[0].name])
    )
    graph = helper.make_graph(
        nodes,
        "pixels_to_mask",
        prepare.graph.input,
        decide.graph.output,
        [
            *(tensor for part in parts for tensor in part.initializer),
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
        ],
    )
    joined = helper.make_model(
        graph, opset_imports=prepare.opset_import, ir_version=prepare.ir_version
    )
    for i, node in enumerate(joined.graph.node):
        node.name = node.name or f"join/{node.op_type}_{i}"
    return joined
