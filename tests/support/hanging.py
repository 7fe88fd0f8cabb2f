"""An artifact that hangs: one node takes half a minute, and looks at nothing meanwhile."""

from pathlib import Path

import numpy as np

from tests.conftest import write_checksum

# Of two matrices whose product takes half a minute and more: whole numbers have no fast way.
SIDE = 4096


def write_hanging_artifact(path: Path) -> Path:
    """Write an artifact that marks what is darker than 50, and hangs in images that are all black.

    onnxruntime looks between two nodes whether a run was told to stop, so not in its one MatMul.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, array):
        return numpy_helper.from_array(np.asarray(array), name)

    def picture(name):
        return helper.make_tensor_value_info(name, TensorProto.UINT8, ["height", "width"])

    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Cast", ["pixels"], ["numbers"], to=TensorProto.INT64),
            node("ReduceMax", ["numbers"], ["brightest"], keepdims=0),
            node("Equal", ["brightest", "nought"], ["is_black"]),
            node("Where", ["is_black", "large", "small"], ["shape"]),
            node("Expand", ["one", "shape"], ["matrix"]),
            node("MatMul", ["matrix", "matrix"], ["product"]),
            node("ReduceMin", ["product"], ["least"], keepdims=0),
            node("Min", ["least", "nought"], ["nothing"]),
            node("Add", ["numbers", "nothing"], ["seen"]),
            node("Less", ["seen", "fifty"], ["hot"]),
            node("Where", ["hot", "highest", "zero"], ["mask"]),
        ],
        "hanging",
        [picture("pixels")],
        [picture("mask")],
        [
            constant("large", np.int64([SIDE, SIDE])),
            constant("small", np.int64([1, 1])),
            constant("one", np.int64(1)),
            constant("nought", np.int64(0)),
            constant("fifty", np.int64(50)),
            constant("highest", np.uint8(255)),
            constant("zero", np.uint8(0)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return write_checksum(path)


BLACK = np.zeros((9, 9), np.uint8)
WHITE = np.full((9, 9), 255, np.uint8)
