"""An artifact that takes as long as the image asks for, to see what a busy server does."""

from pathlib import Path

import numpy as np

from tests.conftest import write_checksum

SIDE = 448  # of the matrices that are multiplied to pass the time, about a millisecond each


def write_slow_artifact(path: Path) -> Path:
    """Write an artifact that marks what is darker than 50, after 255 - pixels[0, 0] products.

    A white corner is free, and the drawn patient has one, so that servers start at once. A corner
    of 0 takes some hundred milliseconds, `minutes(...)` far longer than any test waits.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    def constant(name, array):
        return numpy_helper.from_array(np.asarray(array), name)

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            helper.make_node("MatMul", ["matrix", "turn"], ["turned"]),
        ],
        "pass_time",
        [
            value("i", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("matrix", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [
            value("still_going", TensorProto.BOOL, []),
            value("turned", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
    )
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Cast", ["pixels"], ["numbers"], to=TensorProto.INT64),
            node("Slice", ["numbers", "start", "stop"], ["corner"]),
            node("Squeeze", ["corner"], ["first"]),
            node("Sub", ["white", "first"], ["trips_asked"]),
            # One pixel wide images are those of minutes().
            node("Shape", ["pixels"], ["width"], start=1, end=2),
            node("Squeeze", ["width"], ["width_number"]),
            node("Div", ["million", "width_number"], ["thin"]),
            node("Div", ["thin", "million"], ["is_thin"]),
            node("Mul", ["is_thin", "million"], ["extra"]),
            node("Add", ["trips_asked", "extra"], ["trips"]),
            node("Loop", ["trips", "yes", "turn"], ["late"], body=body),
            node("ReduceMax", ["late"], ["peak"], keepdims=0),
            node("Min", ["peak", "nought"], ["nothing"]),
            node("Cast", ["pixels"], ["grey"], to=TensorProto.FLOAT),
            node("Add", ["grey", "nothing"], ["seen"]),
            node("Less", ["seen", "fifty"], ["hot"]),
            node("Where", ["hot", "highest", "zero"], ["mask"]),
        ],
        "slow",
        [value("pixels", TensorProto.UINT8, ["height", "width"])],
        [value("mask", TensorProto.UINT8, ["height", "width"])],
        [
            constant("start", np.int64([0, 0])),
            constant("stop", np.int64([1, 1])),
            constant("white", np.int64(255)),
            constant("million", np.int64(1_000_000)),
            constant("yes", True),
            constant("turn", np.eye(SIDE, dtype=np.float32)),
            constant("nought", np.float32(0)),
            constant("fifty", np.float32(50)),
            constant("highest", np.uint8(255)),
            constant("zero", np.uint8(0)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"name": "slow"})
    onnx.save(model, path)
    return write_checksum(path)


def lasting(corner: int = 0) -> np.ndarray:
    """Return an image, uint8 40×30, that takes some milliseconds for each grey below 255."""
    pixels = np.full((40, 30), 255, np.uint8)
    pixels[0, 0] = corner
    pixels[10:20, 10:20] = 0
    return pixels


def minutes() -> np.ndarray:
    """Return an image, uint8 40×1, that takes many minutes."""
    return np.full((40, 1), 255, np.uint8)
