"""What is true of the weights of any 8-bit file that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

MOST = 64  # 2 × 64 × 255 still fits 16 bits


def overflowing(model: onnx.ModelProto) -> list[str]:
    """Names of the 8-bit weights of convolutions across channels that some CPU's sums overflow."""
    from onnx import numpy_helper  # not where only the server's packages are installed

    made = {name: node for node in model.graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found, seen = [], 0
    for node in model.graph.node:
        depthwise = any(a.name == "group" and a.i > 1 for a in node.attribute)
        source = made.get(node.input[1]) if node.op_type == "Conv" else None
        if source is None or depthwise:
            continue
        values = numpy_helper.to_array(weights[source.input[0]])
        assert values.dtype == np.int8
        seen += 1
        if np.abs(values.astype(int)).max() > MOST:
            found.append(source.input[0])
    assert seen
    return found
