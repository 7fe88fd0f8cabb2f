"""What several tests need: a tiny artifact, an app with it, and PNGs of every kind."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import settings

from benchmarks.host.limits import Limits
from benchmarks.host.server import Server
from serve.app import create_app
from serve.settings import Settings
from tumour_segmenter.model_file import FILES
from tumour_segmenter.model_file import SHIPPED as _SHIPPED
from tumour_segmenter.segmenter import Segmenter, open_model

PROJECT = Path(__file__).resolve().parent.parent
SHIPPED = FILES[_SHIPPED]

# The same examples in each run: a test that fails sometimes tells nobody anything.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

# Fixtures that start a server or a browser: who asks for one is slow.
SLOW = {"live_server", "driver"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    # Files with slow tests first, so that no process is alone with one of them in the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


TINY_METADATA = {"name": "tiny", "version": "0.0.1", "threshold": "50"}


def write_artifact(
    path: Path,
    *,
    names: tuple[str, ...] = ("pixels", "mask", "probability"),
    highest: int = 255,
    opset: int = 17,
    metadata: dict[str, str] = TINY_METADATA,
    minimum: bool = False,
) -> Path:
    """Write an artifact that calls tumour what is darker than 50, and its checksum.

    Its probability is 1 - grey / 255. With `minimum`, the probability of a pixel must also reach
    `minimum_probability`, an initializer that is 0.5 unless it is fed, and `threshold_factor` times
    the threshold, 205 / 255.
    """
    import onnx
    from onnx import TensorProto, helper

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.UINT8, ["height", "width"])

    def scalar(name, number):
        return helper.make_tensor(name, TensorProto.FLOAT, [], [number])

    given, mask, *others = names
    node, inputs = helper.make_node, [value(given)]
    initializers = [
        scalar("white", 255.0),
        scalar("threshold", 205.0),
        scalar("threshold_factor", 1.0),
        helper.make_tensor("highest", TensorProto.UINT8, [], [highest]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
    ]
    nodes = [
        node("Cast", [given], ["grey"], to=TensorProto.FLOAT),
        node("Sub", ["white", "grey"], ["uptake"]),
        node("Mul", ["threshold", "threshold_factor"], ["least"]),
        node("Greater", ["uptake", "least"], ["dark"]),
    ]
    nodes += [node("Cast", ["uptake"], [name], to=TensorProto.UINT8) for name in others]
    if minimum:
        name = "minimum_probability"
        for number in (name, "threshold_factor"):
            inputs.append(helper.make_tensor_value_info(number, TensorProto.FLOAT, []))
        initializers.append(scalar(name, 0.5))
        nodes += [
            node("Div", ["uptake", "white"], ["share"]),
            node("GreaterOrEqual", ["share", name], ["probable"]),
            node("And", ["dark", "probable"], ["hot"]),
        ]
    else:
        nodes.append(node("Identity", ["dark"], ["hot"]))
    nodes.append(node("Where", ["hot", "highest", "zero"], [mask]))
    outputs = [value(name) for name in (mask, *others)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return write_checksum(path)


def write_checksum(path: Path) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
    return path


@pytest.fixture(scope="session")
def artifact(tmp_path_factory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact") / "model.onnx")


@pytest.fixture(scope="session")
def shipped() -> Segmenter:
    return open_model(SHIPPED)


@pytest.fixture(scope="session")
def app(artifact):
    return create_app(Settings.read({"MODEL": os.fspath(artifact)}))


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def live_server(artifact):
    """The address of a gunicorn that serves the tiny artifact, with two workers."""
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("MODEL", os.fspath(artifact))
        environ.setenv("WORKERS", "2")
        server = Server(Limits(frozenset(os.sched_getaffinity(0)), None, ""))
    with server:
        yield server.url
