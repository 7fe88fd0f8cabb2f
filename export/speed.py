"""How fast is the network, and how near to what this CPU can do? `python -m export.speed`

One thread, nothing else running. Times the shipped file in float32, in 8 bits and in torch, turn by
turn in one run; then narrower and finer networks, of which only those that an experiment trained
have a Dice. Multiply-adds are those of the convolutions, over the peak that a matrix product
reaches here. Writes artifacts/SPEED.md, speed.json and speed.png. Takes some 5 minutes.

Exit codes: 0 written, 2 bad input, 130 interrupted.
"""

import argparse
import itertools
import logging
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import nn
from tqdm import tqdm

from export import int8, onnx_file, speed_report
from export.graph import PixelsToMask
from serve.phantom import phantom
from serve.segmenter import ArtifactError, Segmenter
from train import comparison, warm_start
from train.canonical import Upright
from train.config import Config
from train.decision import Decision
from train.evaluate import Segmentation
from train.files import write_json
from train.network import MobileNetUNet

HEIGHTS, WIDTH = (426, 489, 991), 400
WIDTHS, RESOLUTIONS = (0.5, 0.75, 1.0), (False, True)
ROUNDS = 40
PEAK_SIZE = 1024
CALIBRATION = 6


def shipped_module(model: onnx.ModelProto) -> PixelsToMask:
    """The torch module that an exported file was made from."""
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    upright = next(v for k, v in weights.items() if k.endswith("upright.weights"))
    network = MobileNetUNet()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(2, 1, 256, 256, generator=generator)]
    warm_start.load(network, model, batches)
    facts = {p.key: p.value for p in model.metadata_props}
    decision = Decision(float(facts["threshold"]), float(facts["least_peak"]))
    return PixelsToMask(Segmentation(network, Upright(upright.tolist())), decision).eval()


def untrained(width: float, full_resolution: bool, upright: Upright) -> PixelsToMask:
    """The function with a network of random weights: as fast as a trained one."""
    torch.manual_seed(0)
    network = MobileNetUNet(width, full_resolution)
    return PixelsToMask(Segmentation(network, upright), Decision(0.5, 0.5)).eval()


def multiply_adds(module: PixelsToMask, height: int) -> int:
    """Of all convolutions for one image of that height, in all its views."""
    total = 0

    def count(conv: nn.Conv2d, _: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d)]
    in_torch(module)(phantom(height, WIDTH)[0])
    for hook in hooks:
        hook.remove()
    return total


def in_torch(module: PixelsToMask) -> Callable[[np.ndarray], np.ndarray]:
    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(pixels)).numpy()

    return run


def times(engines: dict[str, Callable], height: int) -> dict[str, list[float]]:
    """Milliseconds of ROUNDS calls of each engine, turn by turn, after one to warm up."""
    images = [phantom(height, WIDTH, seed=seed)[0] for seed in range(4)]
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(ROUNDS + 1):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine(images[number % len(images)])
            if number:
                taken[name].append(1000 * (time.perf_counter() - start))
    return taken


def peak(eight_bits: bool) -> float:
    """G multiply-adds a second of a square matrix product in onnxruntime, one thread; the best."""
    kind = TensorProto.UINT8 if eight_bits else TensorProto.FLOAT
    weights = np.random.default_rng(0).integers(-127, 127, (PEAK_SIZE, PEAK_SIZE))
    weights = weights.astype(np.int8 if eight_bits else np.float32)
    node = helper.make_node("MatMulInteger" if eight_bits else "MatMul", ["a", "b"], ["c"])
    shape = [PEAK_SIZE, PEAK_SIZE]
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", kind, shape)],
        [helper.make_tensor_value_info("c", TensorProto.INT32 if eight_bits else kind, shape)],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", onnx_file.OPSET)], ir_version=10
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    a = np.abs(weights).astype(np.uint8 if eight_bits else np.float32)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        session.run(None, {"a": a})
        seconds.append(time.perf_counter() - start)
    return PEAK_SIZE**3 / min(seconds) / 1e9


def side_by_side(model: Path, module: PixelsToMask) -> list[dict]:
    """Rows of the shipped file and its twin, and of torch, for each of HEIGHTS."""
    engines = {
        "float32": Segmenter.load(model),
        "int8": Segmenter.load(model.with_suffix(".int8.onnx")),
        "torch": in_torch(module),
    }
    peaks = {name: peak(name == "int8") for name in engines}
    rows = []
    for height in tqdm(HEIGHTS, desc="shipped", unit="size", disable=None):
        work = multiply_adds(module, height) / 1e9
        for name, taken in times(engines, height).items():
            p50, p99 = np.percentile(taken, (50, 99))
            share = work / (p50 / 1000) / peaks[name]
            rows.append(
                {
                    "engine": name,
                    "image": f"{WIDTH}×{height}",
                    "p50_ms": round(float(p50), 2),
                    "p99_ms": round(float(p99), 2),
                    "g_multiply_adds": round(work, 3),
                    "peak_g_per_s": round(peaks[name], 1),
                    "share_of_peak": round(float(share), 3),
                }
            )
    return rows


def variants(upright: Upright, artifacts: Path) -> list[dict]:
    """Rows of narrower and finer networks at the largest size, float32 and 8 bits."""
    images = [phantom(HEIGHTS[1], WIDTH, seed=seed)[0] for seed in range(CALIBRATION)]
    rows = []
    every = list(itertools.product(WIDTHS, RESOLUTIONS))
    for width, full in tqdm(every, desc="variants", unit="network", disable=None):
        module = untrained(width, full, upright)
        model = onnx_file.to_onnx(module)
        files = {"float32": model, "int8": int8.quantise(model, images)}
        engines = {
            name: Segmenter.open(file.SerializeToString(), name) for name, file in files.items()
        }
        trained = trained_with(width, full, artifacts)
        for name, taken in times(engines, HEIGHTS[-1]).items():
            rows.append(
                {
                    "width": width,
                    "resolution": "full" if full else "half",
                    "engine": name,
                    "parameters": sum(p.numel() for p in module.parameters()),
                    "g_multiply_adds": round(multiply_adds(module, HEIGHTS[-1]) / 1e9, 3),
                    "p50_ms": round(float(np.median(taken)), 2),
                }
                | trained
            )
    return rows


def trained_with(width: float, full: bool, artifacts: Path) -> dict:
    """Dice of the experiment on most patients with such a network, empty where there is none."""
    defaults = vars(Config(data="", source_commit=""))
    wanted = {"width": width, "full_resolution": full}
    found = [
        comparison.summary(result)
        for result in comparison.results(artifacts)
        if all((defaults | result["settings"])[key] == value for key, value in wanted.items())
    ]
    if not found:
        return {"dice": None, "patients": 0}
    best = max(found, key=lambda s: (len(s.nested), s.nested.mean()))
    return {"dice": round(float(best.nested.mean()), 4), "patients": len(best.nested)}


def cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.speed", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=Path("artifacts/model.onnx"))
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="to write to")
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore", module="torch|onnxscript|copyreg")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    try:
        module = shipped_module(warm_start.read(arguments.model))
        shipped = side_by_side(arguments.model, module)
    except (ValueError, ArtifactError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    result = {
        "date": f"{date.today()}",
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "shipped": shipped,
        "variants": variants(module.segmentation.upright, arguments.artifacts),
    }
    write_json(arguments.artifacts / "speed.json", result)
    speed_report.write(result, arguments.artifacts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
